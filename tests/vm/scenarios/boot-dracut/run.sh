# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# tried twice: virtio_net
# kernel: rd.driver.blacklist=psmouse rd.driver.pre=crc16
# not in the initramfs: psmouse
# before addonce: crc16
# The initramfs is dracut's, with systemd in it, and addonce loads in both. In the initramfs virtio_net fails, for what it
# depends on is not there; that is remembered, and in the real root the cause looks different: it comes in. What the kernel's
# command line says to dracut holds.

afterwards() {
    sleep 6
    addonce failed | section failed
}
