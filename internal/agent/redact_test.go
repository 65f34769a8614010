package agent

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

func TestRedact(t *testing.T) {
	for _, test := range []struct {
		secrets []string
		text    string
		want    string
	}{
		{[]string{"pass"}, "a pass b passpass", "a *** b ***"},
		{[]string{"ab", "bc"}, "abc xbcx a b", "*** x***x a b"},
		{[]string{"abcd", "bc"}, "abce abcd", "a***e ***"},
		{[]string{"aaa"}, "aa aaa aaaaa", "aa *** ***"},
		{[]string{" -- KEY\r\n  line 2\n\n-- END\n"}, "-- KEY\n line 2\nx-- ENDy", "***\n ***\nx***y"},
		{[]string{"xé"}, "xé x\xc3", "*** x\xc3"},
		{[]string{"a\xff\x00b"}, "-a\xff\x00b-", "-***-"},
	} {
		if got := newSecrets(test.secrets).redact(test.text); got != test.want {
			t.Errorf("%q: got %q, want %q", test.secrets, got, test.want)
		}
	}
	if newSecrets([]string{"", " \n "}) != nil {
		t.Error("there is nothing to find")
	}
	var none *secrets
	if none.redact("text") != "text" || none.value(`"x"`) != `"x"` {
		t.Error("nothing is sensitive")
	}
}

// TestRedactInURLs: what is sensitive is so in the form that the URL of a repository gives it.
func TestRedactInURLs(t *testing.T) {
	s := newSecrets([]string{"geh€im wört", `a"b%2Fc d`, "Plain"})
	s = s.with(s.inURLs())
	for text, want := range map[string]string{
		"https://h/geh%E2%82%ACim%20w%C3%B6rt/x": "https://h/***/x", "geh€im wört": "***", "https://plain.example/Plain": "https://***.example/***",
		"https://h/a%22b/c%20d": "https://h/***",
	} {
		if got := s.redact(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	var none *secrets
	if none.inURLs() != nil {
		t.Error("nothing is sensitive")
	}
}

func TestRedactValue(t *testing.T) {
	s := newSecrets([]string{"pw", "42", `a"<b`})
	for value, want := range map[string]string{
		`"x pw y"`: `"x *** y"`, `42`: `"***"`, `420`: `420`, `{"pw":["pw",true,null,{"a":"a\"\u003cb"}]}`: `{"***":["***",true,null,{"a":"***"}]}`, ``: ``,
	} {
		if got := s.value(workflow.Value(value)); string(got) != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
}

// However the text is cut: no sensitive text comes through, all else does, and the cuts change nothing.
func TestRedactionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hidden := rapid.SliceOfN(rapid.StringMatching(`[abc]{1,6}`), 1, 5).Draw(t, "secrets")
		text := []byte(rapid.StringMatching(`([abcd\n]|abc|cab){0,60}`).Draw(t, "text"))
		s := newSecrets(hidden)
		r := redaction{secrets: s}
		var got []byte
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			got = append(got, r.write(rest[:n])...)
			rest = rest[n:]
		}
		got = append(got, r.end()...)
		if want := slowlyRedacted(hidden, text); !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for _, one := range hidden {
			if strings.Contains(string(got), one) {
				t.Fatalf("%q is in %q", one, got)
			}
		}
	})
}

// slowlyRedacted does what is wanted in the simplest way.
func slowlyRedacted(hidden []string, text []byte) (shown []byte) {
	hide := make([]bool, len(text))
	for at := range text {
		for _, one := range hidden {
			if bytes.HasPrefix(text[at:], []byte(one)) {
				for i := range one {
					hide[at+i] = true
				}
			}
		}
	}
	for at := range text {
		switch {
		case !hide[at]:
			shown = append(shown, text[at])
		case at == 0 || !hide[at-1]:
			shown = append(shown, redacted...)
		}
	}
	return shown
}

// Neither long secrets nor their likes make it slow.
func BenchmarkRedact(b *testing.B) {
	line := []byte(strings.Repeat("an ordinary line of output, 2024-01-31T00:00:00Z INFO nothing happened\n", 400))
	for _, hidden := range []string{"s3cr3t-p4ssw0rd", "information", strings.Repeat("a", 1<<20)} {
		s := newSecrets([]string{hidden})
		for name, text := range map[string][]byte{"lines": line, "likes": bytes.Repeat([]byte("a"), 32<<10)} {
			b.Run(fmt.Sprintf("%.6s/%s", hidden, name), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				r := redaction{secrets: s}
				for b.Loop() {
					r.write(text)
				}
			})
		}
	}
}
