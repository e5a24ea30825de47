package qmp

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// start runs a machine until the end of the test: its QMP socket and its control socket.
func start(t *testing.T, options ...string) (*Monitor, *Monitor) {
	t.Helper()
	program := os.Getenv("QMPD")
	if program == "" {
		program = "qmpd"
	}
	folder, err := os.MkdirTemp("", "qmpd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	qmp, control := filepath.Join(folder, "qmp.sock"), filepath.Join(folder, "control.sock")
	line := append([]string{"serve", "--socket", qmp, "--control", "unix:" + control, "--clock", "virtual"}, options...)
	machine := exec.Command(program, line...)
	output, err := machine.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Process.Kill(); machine.Wait() })
	// It prints a line when it listens.
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var monitors [2]*Monitor
	for index, path := range []string{qmp, control} {
		if monitors[index], err = Connect(path); err != nil {
			t.Fatal(err)
		}
	}
	return monitors[0], monitors[1]
}

func do(t *testing.T, monitor *Monitor, name string, arguments any) string {
	t.Helper()
	result, err := monitor.Execute(name, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return string(result)
}

func TestAGuestThatTakesItsTime(t *testing.T) {
	monitor, puppeteer := start(t, "--guest", "boot-time=5s,powerdown-delay=80s", "--no-shutdown")
	do(t, puppeteer, "clock-advance", map[string]any{"time": 6})
	do(t, monitor, "system_powerdown", nil)
	do(t, puppeteer, "clock-advance", map[string]any{"time": "79s"})
	if status := do(t, monitor, "query-status", nil); status != `{"status": "running", "running": true}` {
		t.Errorf("it has ended too soon: %s", status)
	}
	do(t, puppeteer, "clock-advance", map[string]any{"time": "1s"})
	do(t, monitor, "query-status", nil)
	last := monitor.Events[len(monitor.Events)-2:]
	if last[0] != "SHUTDOWN" || last[1] != "STOP" {
		t.Errorf("events: %v", monitor.Events)
	}
}
