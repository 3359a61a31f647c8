# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# No daemon: udev runs addonce for each device, and `udevadm settle` covers the loads.

storm() {
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
    must udevadm settle --timeout=3600
    mark settled
}
