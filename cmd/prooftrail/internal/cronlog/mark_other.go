//go:build !linux

package cronlog

import "io/fs"

func markOf(info fs.FileInfo) fileMark { return fileMark{size: info.Size(), modified: info.ModTime()} }
