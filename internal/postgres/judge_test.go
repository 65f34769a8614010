package postgres

import (
	"bufio"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A script for the judge: what it sees at each poll, and whom it declares dead then.
func TestJudge(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	started, restarted := time.Unix(1000, 0), time.Unix(2000, 0)
	type poll struct {
		after  time.Duration // since the poll before
		beat   int64
		free   bool // the session lock
		server time.Time
		fails  bool // the poll itself
		dead   bool
	}
	seconds := func(count int, of poll) []poll {
		of.after = time.Second
		return slices.Repeat([]poll{of}, count)
	}
	for name, polls := range map[string][]poll{
		"one that beats lives":                       slices.Concat(seconds(3, poll{beat: 1}), seconds(3, poll{beat: 2}), seconds(6, poll{beat: 3})),
		"three beats missed":                         append(seconds(6, poll{beat: 1}), poll{after: time.Second, beat: 1, dead: true}),
		"a beat at the last moment":                  append(seconds(6, poll{beat: 1}), seconds(6, poll{beat: 2})...),
		"a free lock is believed after a second":     {{beat: 1}, {after: time.Second, beat: 1, free: true}, {after: time.Second, beat: 1, free: true, dead: true}},
		"a lock that is back in time":                {{beat: 1, free: true}, {after: 900 * time.Millisecond, beat: 1}, {after: time.Second, beat: 1, free: true}, {after: 900 * time.Millisecond, beat: 1, free: true}},
		"one without a lock that beats often lives":  slices.Concat(seconds(1, poll{beat: 1, free: true}), seconds(1, poll{beat: 2, free: true}), seconds(1, poll{beat: 3, free: true})),
		"polls that fail make the judge begin anew":  slices.Concat(seconds(6, poll{beat: 1}), seconds(1, poll{fails: true}), seconds(6, poll{beat: 1}), []poll{{after: time.Second, beat: 1, dead: true}}),
		"a poll that was held up says nothing":       {{beat: 1}, {after: time.Minute, beat: 1}, {after: time.Second, beat: 2}},
		"nor does one that was held up after a free": {{beat: 1, free: true}, {after: time.Minute, beat: 1, free: true}, {after: 900 * time.Millisecond, beat: 1, free: true}},
		"all locks are free after a restart": slices.Concat(seconds(2, poll{beat: 1}),
			seconds(5, poll{beat: 1, free: true, server: restarted}), seconds(5, poll{beat: 2, free: true, server: restarted}),
			seconds(1, poll{beat: 3, free: true, server: restarted}), []poll{{after: time.Second, beat: 3, free: true, server: restarted, dead: true}}),
		"a restart gives three beats anew": slices.Concat(seconds(6, poll{beat: 1}), seconds(6, poll{beat: 1, server: restarted}),
			[]poll{{after: time.Second, beat: 1, server: restarted, dead: true}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j judge
			now := time.Unix(5000, 0)
			for number, poll := range polls {
				now = now.Add(poll.after)
				if poll.fails {
					j.interrupt()
					continue
				}
				if poll.server.IsZero() {
					poll.server = started
				}
				agent := tickAgent{Incarnation: 7, Beat: poll.beat, Locked: !poll.free, Interval: interval.Milliseconds(), Process: "elsewhere"}
				if lost := j.lost([]tickAgent{agent}, poll.server, now); lost[7] != poll.dead {
					t.Fatalf("at poll %d it is declared %v, should be %v", number, slices.Collect(maps.Keys(lost)), poll.dead)
				}
			}
		})
	}
}

func TestJudgeForgetsWhoLeft(t *testing.T) {
	t.Parallel()
	var j judge
	now := time.Unix(5000, 0)
	agents := []tickAgent{{Incarnation: 1, Beat: 1, Locked: true, Interval: 1000}, {Incarnation: 2, Beat: 1, Locked: true, Interval: 1000}}
	j.lost(agents, now, now)
	j.lost(agents[1:], now, now.Add(time.Second))
	if _, kept := j.observed[1]; kept || len(j.observed) != 1 {
		t.Errorf("observed is %v", j.observed)
	}
}

// childArgument makes the test program a process that lives until its input ends.
const childArgument = "a-process-to-be-judged"

func beChild() {
	os.Stdout.WriteString(processIdentity() + "\n") //nolint:errcheck // the parent sees it
	io.Copy(io.Discard, os.Stdin)                   //nolint:errcheck // ends with the input
	os.Exit(0)
}

func TestProvenDead(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0], childArgument)
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	identity := strings.TrimSpace(line)
	if identity == processIdentity() {
		t.Error("two processes have one identity")
	}
	if provenDead(identity) || provenDead(processIdentity()) {
		t.Error("a living process is said to be dead")
	}
	certain := runtime.GOOS == "linux"
	input.Close()
	if _, err := io.Copy(io.Discard, output); err != nil { // it ends with the process, which is a zombie then
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); certain && !provenDead(identity); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a zombie is said to live")
		}
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if provenDead(identity) != certain {
		t.Errorf("that the process has ended is proven: %v", !certain)
	}
	fields := strings.Fields(identity)
	if len(fields) < 4 {
		if certain {
			t.Fatalf("the identity is %q", identity)
		}
		return
	}
	for what, other := range map[string]string{
		"another boot":        "x" + identity,
		"another namespace":   fields[0] + " pid:[1] " + fields[2] + " " + fields[3],
		"a host's name":       "host",
		"nothing":             "",
		"no start time":       strings.Join(fields[:3], " "),
		"something not a pid": fields[0] + " " + fields[1] + " x " + fields[3],
	} {
		if provenDead(other) {
			t.Errorf("a process of %s is said to be dead", what)
		}
	}
	if reused := fields[0] + " " + fields[1] + " " + strings.Fields(processIdentity())[2] + " 1"; !provenDead(reused) {
		t.Error("a process whose number has gone to another is said to live")
	}
}

// deadProcess is the identity of a process that has ended.
func deadProcess(t *testing.T) string {
	t.Helper()
	child := exec.Command(os.Args[0], childArgument)
	output, err := child.Output() // its input is empty
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}
