# SPDX-License-Identifier: MIT OR Apache-2.0
# The image is busybox and addonce, without udev: what docs/initramfs.md describes.

dpkg -i /lab/addonce.deb
release=$(ls /usr/lib/modules)
image=/lab/image
mkdir -p $image/usr/bin $image/usr/lib $image/usr/lib64 $image/etc
ln -s usr/bin usr/lib usr/lib64 $image/
# shellcheck disable=SC2046 # paths, a word each
cp --parents $(ldd /usr/bin/addonce /usr/bin/busybox | grep -o '/[^ :]*' | sort -u) $image
cp -a /etc/modprobe.d $image/etc/
cp /usr/lib/addonce/initramfs-busybox-init $image/init
cd "/usr/lib/modules/$release" || exit
mkdir -p "$image$PWD"
cp -a --parents modules.builtin modules.builtin.modinfo modules.order kernel/crypto kernel/drivers/block \
    kernel/drivers/virtio kernel/fs/ext4 kernel/fs/jbd2 kernel/fs/mbcache.ko kernel/lib "$image$PWD"
depmod -b $image "$release"
cd $image || exit
find . | busybox cpio -o -H newc 2>/dev/null | zstd -q -1 >"/boot/initrd.img-$release"
