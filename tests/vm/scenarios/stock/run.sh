# SPDX-License-Identifier: MIT OR Apache-2.0
# udev as the distribution ships it, and the coldplug a boot does.

storm() {
    coldplug
    udev_settled
}
