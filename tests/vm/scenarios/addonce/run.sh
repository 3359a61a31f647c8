# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# addonce loads, udev does the rest: it leaves MODALIASes to the daemon for as long as that listens.
# The daemon scans, and udev's coldplug then says the same once more: that must not bring a second attempt.

both_settled() {
    must udevadm settle --timeout=3600
    must addonce settle --timeout 300
}

storm() {
    addonce daemon --scan >>$LOG 2>&1 &
    wait_for /run/addonce/io.addonce 60
    mark ready
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    both_settled
    # udev's last events may have given addonce work, and what addonce loaded last may have given udev some.
    both_settled
    mark settled
}

# What an administrator would ask, once the storm counts as over.
afterwards() {
    sleep 6
    addonce failed | section failed
    addonce plot --json | section storm
    udevadm test --action=add /sys/devices/system/cpu/cpu0 2>&1 | grep -q "^run: .*addonce" &&
        fail "udev asks, although a daemon listens"
}
