# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# kernel: blacklist=psmouse
# not in the initramfs: psmouse
# The package was installed before the boot. initramfs-tools has a module blacklisted in its image that is named on the kernel's
# command line: it is loaded later.
