# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# addonce loads, udev does the rest: it leaves MODALIASes to the daemon for as long as that listens.
# The daemon scans, and udev's coldplug then says the same once more: that must not bring a second attempt.

storm() {
    listening
    coldplug
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
