# SPDX-License-Identifier: MIT OR Apache-2.0
# As somebody does who builds an image: nothing runs.

dpkg -i /lab/addonce.deb
