# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# modules: may be tried again
# A daemon that is killed twenty times in the storm, at random moments, and started again as systemd would.

storm() { killed_daemon; }
