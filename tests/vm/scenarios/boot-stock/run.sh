# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# A whole Debian as it is after an installation.
