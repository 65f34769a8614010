package gitrepo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // scheme, what git is told, name
		"https://Example.com/org/a.git":        "https https://example.com/org/a.git example.com/org/a",
		"HTTPS://example.com:443/org//x/../a/": "https https://example.com:443/org//x/../a/ example.com/org/a",
		"http://example.com:8080/a":            "http http://example.com:8080/a example.com:8080/a",
		"https://u:p%2Fw@example.com/a":        "https https://example.com/a example.com/a",
		"https://token@example.com/a":          "https https://example.com/a example.com/a",
		"ssh://git@example.com:22/org/a":       "ssh ssh://git@example.com:22/org/a example.com/org/a",
		"git@Example.com:org/a.git":            "ssh git@Example.com:org/a.git example.com/org/a",
		"example.com:/org/a":                   "ssh example.com:/org/a example.com/org/a",
		"git://example.com/a":                  "git git://example.com/a example.com/a",
		"https://[::1]:8443/a":                 "https https://[::1]:8443/a ::1:8443/a",
		"/srv/x/../git/a":                      "file /srv/git/a /srv/git/a",
		"file:///srv/git/a%20b":                "file /srv/git/a b /srv/git/a b",
	} {
		r, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := r.Scheme + " " + r.Fetch + " " + r.name(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
		if strings.Contains(r.String(), "p%2Fw") || strings.Contains(r.String(), "token") {
			t.Errorf("%s shows its credentials", text)
		}
	}
	r, err := Parse("https://u:p%2Fw@example.com/a")
	if err != nil || r.Username != "u" || r.Password != "p/w" || strings.Join(r.Secrets(), " ") != "p/w p%2Fw" {
		t.Errorf("credentials: %+v %v", r, err)
	}
	if r, err = Parse("https://git@example.com/a"); err != nil || r.Username != "git" || r.Password != "" || len(r.Secrets()) > 0 {
		t.Errorf("a name alone: %+v %v", r, err)
	}
	const token = "ghp_0123456789abcdef0123456789abcdef"
	if r, err = Parse("https://" + token + "@example.com/a"); err != nil || r.Username != token || r.Password == "" || r.Secrets()[0] != token {
		t.Errorf("a token: %+v %v", r, err)
	}
	for _, text := range []string{
		"", "a", "a/b", "../a", "~/a", "-a", "--upload-pack=x", "ext::sh -c date", "ext::sh://x/y", "fd::17/x", "ftp://example.com/a", "https:/a", "https://", "https://example.com",
		"https:///a", "https://-x/a", "https://example.com/a?token=s3cret", "https://example.com/a#x", "https://u:s3cret@exa mple.com/a", "https://u:s3cret/x@example.com/a",
		"ssh://-oProxyCommand=x/a", "ssh://git:s3cret@example.com/a", "ssh://-x@example.com/a", "-x@example.com:a", "git@-x:a", "git@example.com:-a", "git@example.com:", "git://u@example.com/a",
		"file://host/a", "file://a", "https://example.com/a\nb", "https://example.com/a%0ab", "https://u:s3cret%0ahost=x@example.com/a", "/a\x00", "/" + strings.Repeat("x", maxRepository),
	} {
		if r, err := Parse(text); err == nil {
			t.Errorf("%q is taken as %+v", text, r)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckRef(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "main", "HEAD", "feature/x", "v1.2", "refs/pull/7/head", strings.Repeat("a", 40), "größe", "a@b", "$x"} {
		if err := CheckRef(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"-x", "--all", "a b", "a\tb", "a\nb", "a\x00", "a..b", "a~1", "a^", "a:b", "+a:b", "a?", "a*", "a[", `a\b`, "@", "a@{1}", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.",
		"${x}", strings.Repeat("a", maxRef+1),
	} {
		if err := CheckRef(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestCheckPath(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", ".", "a", "a/b/", "./a", "a/../b", "..a", "a b", "a/.github"} {
		if err := CheckPath(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"/", "/a", "..", "../a", "a/../../b", "a\x00", "a\n", ".git", "a/.GIT/hooks", strings.Repeat("a", maxPath+1)} {
		if err := CheckPath(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestErrorsShowNoParts: what is sensitive is known as such only where it is whole.
func TestErrorsShowNoParts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("secret", 20)
	for _, err := range []error{CheckRef("b-" + long + "~1"), CheckPath("../" + long), CheckPath("/" + long)} {
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v", err)
		}
	}
	if err := CheckRef("short~1"); err == nil || !strings.Contains(err.Error(), `"short~1"`) {
		t.Errorf("error %v", err)
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	hosts := Policy{AllowedDomains: []string{"GitHub.com", "*.example.com", "git.corp:8443"}}
	repos := Policy{AllowedRepos: []string{"github.com/org/*", "https://example.com/team/one.git", "git@gitlab.com:a/*", "/srv/git/*"}}
	not := Policy{DisallowedRepos: []string{"github.com/Bad/*", "/srv/secret*", there}}
	for _, test := range []struct {
		policy     Policy
		repository string
		allowed    bool
	}{
		{Policy{}, "https://anything.example/a", true},
		{hosts, "https://github.com/a/b", true},
		{hosts, "git@GitHub.com:a/b", true},
		{hosts, "https://u:p@github.com/a/b", true},
		{hosts, "https://github.com:8443/a/b", true},
		{hosts, "https://github.com.evil.example/a/b", false},
		{hosts, "https://evilgithub.com/a/b", false},
		{hosts, "https://github.com@evil.example/a/b", false},
		{hosts, "ssh://git@a.b.example.com/x", true},
		{hosts, "https://example.com/x", false},
		{hosts, "https://git.corp:8443/x", true},
		{hosts, "https://git.corp/x", false},
		{hosts, "/srv/git/a", false},
		{repos, "https://github.com/org/a.git", true},
		{repos, "ssh://git@github.com/org/a", true},
		{repos, "https://github.com/org/../bad/a", false},
		{repos, "https://github.com/org/%2e%2e/bad/a", false},
		{repos, "https://github.com/organisation/a", false},
		{repos, "https://github.com:8443/org/a", false},
		{repos, "https://example.com/team/one", true},
		{repos, "https://example.com/team/one/two", false},
		{repos, "https://gitlab.com/a/b/c", true},
		{repos, "/srv/git/a", true},
		{repos, "/srv/git/../a", false},
		{repos, "file:///srv/git/a", true},
		{not, "https://github.com/bad/a", false},
		{not, "https://github.com//BAD//a.git", false},
		{not, "git@github.com:bad/a", false},
		{not, "https://github.com/good/bad", true},
		{not, "/srv/secrets/a", false},
		{not, link, false},
	} {
		r, err := Parse(test.repository)
		if err != nil {
			t.Errorf("%s: %v", test.repository, err)
			continue
		}
		if err := test.policy.Check(r); (err == nil) != test.allowed {
			t.Errorf("%s, %+v: %v", test.repository, test.policy, err)
		}
	}
}
