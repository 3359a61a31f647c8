# SPDX-License-Identifier: MIT OR Apache-2.0
# As somebody does who changes his mind.

dpkg -i /lab/addonce.deb
dpkg --purge addonce
