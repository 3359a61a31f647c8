# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# modules: as with stock
# The package was installed before the boot, and purged: the boot is a stock one again.

afterwards() {
    left=$(find /etc /run /usr /var -xdev -name '*addonce*' 2>/dev/null)
    [ -z "$left" ] || fail "left of the package: $left"
}
