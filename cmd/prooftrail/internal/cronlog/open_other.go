//go:build !unix

package cronlog

const noFollow, noBlock = 0, 0
