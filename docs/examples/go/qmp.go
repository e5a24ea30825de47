// Package qmp is the least of a QMP client.
package qmp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
)

// Monitor is a connection to a QMP socket, or to qmpd's control socket: both speak alike.
type Monitor struct {
	conn   net.Conn
	reader *bufio.Reader
	Events []string
}

type message struct {
	Event  string
	Return json.RawMessage
	Error  *struct{ Desc string }
}

// Connect negotiates.
func Connect(path string) (*Monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	monitor := &Monitor{conn: conn, reader: bufio.NewReader(conn)}
	if _, err := monitor.read(); err != nil {
		return nil, err
	}
	_, err = monitor.Execute("qmp_capabilities", nil)
	return monitor, err
}

func (m *Monitor) read() (message, error) {
	var result message
	line, err := m.reader.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &result)
	}
	return result, err
}

// Execute runs a command and keeps the events that come before its reply.
func (m *Monitor) Execute(name string, arguments any) (json.RawMessage, error) {
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return nil, err
	}
	for {
		reply, err := m.read()
		switch {
		case err != nil:
			return nil, err
		case reply.Event != "":
			m.Events = append(m.Events, reply.Event)
		case reply.Error != nil:
			return nil, fmt.Errorf("%s: %s", name, reply.Error.Desc)
		default:
			return reply.Return, nil
		}
	}
}

// Close ends the connection.
func (m *Monitor) Close() error { return m.conn.Close() }
