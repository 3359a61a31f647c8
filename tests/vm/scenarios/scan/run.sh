# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# not asked for: ppdev sg
# addonce alone, one shot, no udev at all. No MODALIAS asks for ppdev or sg: udev loads them by name, by rules of its own
# (80-drivers.rules, and Debian's 80-debian-compat.rules).

storm() {
    must addonce scan >>$LOG 2>&1
    mark settled
}

# In an initramfs nobody may read standard error: the log then goes to the kernel's.
afterwards() {
    addonce load nosuchmodule 2>/dev/null
    dmesg | grep -q 'addonce\[[0-9]*\]: no module is known for nosuchmodule' ||
        fail "what nobody reads is not in the kernel's log"
}
