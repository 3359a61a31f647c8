# SPDX-License-Identifier: MIT OR Apache-2.0
# As addonce-modprobe(8) says that it is switched on.

dpkg -i /lab/addonce.deb
mkdir -p /etc/systemd/system/addonce.service.d
cat >/etc/systemd/system/addonce.service.d/override.conf <<'EOF'
[Service]
ExecStart=
ExecStart=/usr/bin/addonce daemon --kernel-requests
EOF
