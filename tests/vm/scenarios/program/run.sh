# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# No daemon: udev runs addonce for each device, and `udevadm settle` covers the loads.

storm() {
    coldplug
    udev_settled
    mark settled
}

# What udev itself makes of the rules: accepted, and the program is run.
afterwards() {
    udevadm test --action=add /sys/devices/system/cpu/cpu0 >/run/lab/test 2>&1
    grep -q "^run: '/usr/bin/addonce-load'" /run/lab/test || fail "udevadm test does not run addonce-load"
    fault=$(grep '80-drivers.rules:[0-9]* *\(Invalid\|Unknown\|Unexpected\|Missing\|Failed\)' /run/lab/test)
    [ -z "$fault" ] || fail "udevadm test finds fault: $fault"
}
