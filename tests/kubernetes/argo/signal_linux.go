// Package osspecific: the one file of Argo's executor that its module on the Go proxy lacks; ours does what those of
// the other systems do.
package osspecific

import (
	"os"
	"syscall"

	"MODULE/util/errors"
)

// Term ends a process politely.
var Term = syscall.SIGTERM

// CanIgnoreSignal tells which signals are not passed on to the process.
func CanIgnoreSignal(s os.Signal) bool {
	return s == syscall.SIGCHLD || s == syscall.SIGURG
}

// Kill signals a process with all of its group.
func Kill(pid int, s syscall.Signal) error {
	if group, err := syscall.Getpgid(pid); err == nil {
		return syscall.Kill(-group, s)
	}
	return syscall.Kill(pid, s)
}

// Setpgid gives a process a group of its own.
func Setpgid(a *syscall.SysProcAttr) {
	a.Setpgid = true
}

// Wait waits for a process and tells how it ended.
func Wait(process *os.Process) error {
	state, err := process.Wait()
	if err != nil {
		return err
	}
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return errors.NewExitErr(128 + int(status.Signal()))
	}
	return errors.NewExitErr(status.ExitStatus())
}
