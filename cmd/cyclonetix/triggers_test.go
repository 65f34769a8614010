package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cyclonetix/cyclonetix/internal/discovery"
)

// call calls the webhook of a DAG, signed by a secret. The answer is on standard output, where it has the wanted status.
func call(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: call STATUS DAG SECRET BODY DELIVERY")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	running, err := discovery.Find(ts.Getenv("CYCLO_CLUSTER_ID"))
	ts.Check(err)
	request, err := http.NewRequest(http.MethodPost, running.URL+"/api/triggers/"+args[1], strings.NewReader(args[3])) //nolint:noctx // the server is on this machine
	ts.Check(err)
	mac := hmac.New(sha256.New, []byte(args[2]))
	mac.Write([]byte(args[3]))
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	request.Header.Set("X-Github-Delivery", args[4])
	answer, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer answer.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(answer.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	if answer.StatusCode != want {
		ts.Fatalf("the call is answered with %s: %s", answer.Status, body)
	}
}

// until runs a command again and again, until what it prints fits a pattern.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND…")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		printed := ts.ReadFile("stdout")
		if pattern.MatchString(printed) {
			return
		}
		if time.Since(begin) > startTime {
			ts.Fatalf("it never prints %s, but %s", args[0], printed)
		}
	}
}
