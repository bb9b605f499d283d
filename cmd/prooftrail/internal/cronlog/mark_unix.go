//go:build unix

package cronlog

import (
	"io/fs"
	"syscall"
)

const noFollow, noBlock = syscall.O_NOFOLLOW, syscall.O_NONBLOCK

func markOf(info fs.FileInfo) fileMark {
	m := fileMark{size: info.Size(), modified: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.inode = st.Ino
	}
	return m
}
