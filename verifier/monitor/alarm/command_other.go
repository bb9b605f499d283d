//go:build !unix

package alarm

import "os/exec"

func ownGroup(*exec.Cmd) {}

// killGroup kills the program; what it has started goes on.
func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }
