# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# A daemon that udev waits for: `udevadm settle` covers the loads, and nothing else is waited for.

storm() {
    addonce daemon --scan --sync-udev >>$LOG 2>&1 &
    wait_for /run/addonce/io.addonce 60
    mark ready
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    must udevadm settle --timeout=3600
    mark settled
}

afterwards() {
    addonce failed | section failed
}
