//go:build !unix

package cronlog

import "io/fs"

const noFollow, noBlock = 0, 0

func markOf(info fs.FileInfo) fileMark { return fileMark{size: info.Size(), modified: info.ModTime()} }
