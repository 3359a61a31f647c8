# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# addonce alone, one shot, no udev at all.

storm() {
    must addonce scan >>$LOG 2>&1
    mark settled
}
