package cronlog

import (
	"io/fs"
	"syscall"
	"time"
)

func markOf(info fs.FileInfo) fileMark {
	m := fileMark{size: info.Size(), modified: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.inode, m.changed = st.Ino, time.Unix(st.Ctim.Unix())
	}
	return m
}
