# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# A daemon that udev waits for: `udevadm settle` covers the loads, and nothing else is waited for.

storm() {
    listening --sync-udev
    coldplug
    udev_settled
    mark settled
}

afterwards() {
    addonce failed | section failed
}
