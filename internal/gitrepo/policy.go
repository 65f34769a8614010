package gitrepo

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Policy says which repositories may be used. The zero Policy allows all.
type Policy struct {
	// AllowedDomains are hosts, or *.DOMAIN for all below one; none allows all.
	AllowedDomains []string
	// AllowedRepos and DisallowedRepos are patterns such as github.com/org/*, in which a * stands for any text. They may be
	// written with a scheme or as git@HOST:PATH, and mean every way to reach the repository. No AllowedRepos allow all.
	AllowedRepos, DisallowedRepos []string
}

// Check says why a repository is refused, or nil. The error names the key of the configuration.
func (p *Policy) Check(r *Repository) error {
	name, real := r.name(), r.real()
	for _, pattern := range p.DisallowedRepos {
		// In small letters: what is forbidden is so however a server reads it.
		pattern = strings.ToLower(pattern)
		if matches(pattern, strings.ToLower(name)) || matches(pattern, strings.ToLower(real)) {
			return fmt.Errorf("the repository %s is refused by git.security.disallowed_repos of this agent", r)
		}
	}
	if len(p.AllowedDomains) > 0 && !p.allowsHost(r) {
		if r.Scheme == "file" {
			return fmt.Errorf("the repository %s is refused by git.security.allowed_domains of this agent: a path has no domain", r)
		}
		return fmt.Errorf("the repository %s is refused by git.security.allowed_domains of this agent: %s is not among them", r, r.Host)
	}
	if len(p.AllowedRepos) == 0 {
		return nil
	}
	for _, pattern := range p.AllowedRepos {
		if matches(pattern, name) {
			return nil
		}
	}
	return fmt.Errorf("the repository %s is refused by git.security.allowed_repos of this agent: it matches none of them", r)
}

func (p *Policy) allowsHost(r *Repository) bool {
	for _, domain := range p.AllowedDomains {
		domain = strings.ToLower(strings.TrimSpace(domain))
		parent, below := strings.CutPrefix(domain, "*.")
		switch {
		case r.Host == "":
		case below && strings.HasSuffix(r.Host, "."+parent), domain == r.Host, domain == r.address():
			return true
		}
	}
	return false
}

var (
	patternScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@]*@)?`)
	patternSCP    = regexp.MustCompile(`^[A-Za-z0-9_.+-]+@([^:/]+):(.*)$`)
)

// matches tells whether the name of a repository fits a pattern.
func matches(pattern, name string) bool {
	pattern = strings.TrimSpace(pattern)
	if parts := patternSCP.FindStringSubmatch(pattern); parts != nil {
		pattern = parts[1] + "/" + strings.TrimPrefix(parts[2], "/")
	} else {
		pattern = patternScheme.ReplaceAllString(pattern, "")
	}
	if strings.HasPrefix(pattern, "/") {
		pattern = path.Clean(pattern)
	} else {
		host, rest, found := strings.Cut(pattern, "/")
		pattern = strings.ToLower(host)
		if found {
			pattern += strings.TrimSuffix(path.Clean("/"+rest), ".git")
		}
	}
	if pattern == name {
		return true
	}
	var expression strings.Builder
	expression.WriteString(`(?s)^`)
	for i, part := range strings.Split(pattern, "*") {
		if i > 0 {
			expression.WriteString(".*")
		}
		expression.WriteString(regexp.QuoteMeta(part))
	}
	expression.WriteString("$")
	return regexp.MustCompile(expression.String()).MatchString(name)
}
