# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# tried twice: virtio_net
# The initramfs is dracut's, with systemd in it, and the daemon loads in both. In the initramfs virtio_net fails, for what it
# depends on is not there; that is remembered, and in the real root the cause looks different: it comes in.

afterwards() {
    sleep 6
    addonce failed | section failed
}
