package keeper

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestRequest(t *testing.T) {
	c := Command{Args: []string{"/bin/echo", "", "a b"}, Env: []string{"A=1", "B="}, Dir: "/tmp"}
	e, err := c.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	putRequestHeader(e.message, 7, e.flags, e.argc, e.envc, e.size)
	var r request
	if err := r.readHeader(e.message); err != nil {
		t.Fatal(err)
	}
	r.body = e.message[requestHeader:]
	if err := r.split(); err != nil {
		t.Fatal(err)
	}
	if r.id != 7 || r.flags != 0 || goString(r.dir) != "/tmp" || goString(r.path) != "/bin/echo" ||
		strings.Join(goStrings(r.argv), "|") != "/bin/echo||a b" || strings.Join(goStrings(r.envv), "|") != "A=1|B=" ||
		r.argv[len(r.argv)-1] != nil || r.envv[len(r.envv)-1] != nil {
		t.Errorf("%+v, arguments %q, environment %q", r, goStrings(r.argv), goStrings(r.envv))
	}
	for i := range r.body {
		cut := request{argc: r.argc, envc: r.envc, body: r.body[:i]}
		if cut.split() == nil {
			t.Errorf("the first %d bytes will do", i)
		}
	}
	long := request{argc: r.argc, envc: r.envc, body: append(bytes.Clone(r.body), 0)}
	if long.split() == nil {
		t.Error("one string too many will do")
	}
}

// A program whose main forgets MaybeMain must not start itself without end.
func TestForgottenMaybeMain(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{processName}
	if _, err := Start(); err == nil || !strings.Contains(err.Error(), "must call keeper.MaybeMain") {
		t.Errorf("%v", err)
	}
}
