# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# The initramfs has no udev: addonce alone loads what the root file system needs, by the init that is shipped as an example.

afterwards() {
    sleep 6
    addonce failed | section failed
}
