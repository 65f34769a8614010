package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,200}$`)
	clusterPattern = regexp.MustCompile(`^[a-z0-9_]{1,28}$`) // with what is added to it, River takes 46 characters as a schema
)

// checks are what the tag "check" names. The texts of their errors follow the name of the key, and
// never hold the value.
var checks = map[string]func(string) error{
	"name": func(s string) error {
		if !namePattern.MatchString(s) {
			return errors.New("must be letters, digits, '_', '.' and '-', 200 at most")
		}
		return nil
	},
	"cluster id": func(s string) error {
		// It becomes part of the names of schemas, which have at most 63 bytes, and in which "__"
		// is a divider.
		if !clusterPattern.MatchString(s) || strings.Contains(s, "__") || strings.HasSuffix(s, "_") {
			return errors.New("must be lower-case letters, digits and '_', 28 at most, with no '__' in it and no '_' at its end")
		}
		return nil
	},
	"not empty": func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("must not have an empty entry")
		}
		return nil
	},
	"variable": func(s string) error {
		if !variableName.MatchString(s) {
			return errors.New("must be names of environment variables")
		}
		return nil
	},
	"path": func(s string) error {
		if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, " ?#") {
			return errors.New("must be a path that begins with /")
		}
		return nil
	},
	"listen": func(s string) error {
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return errors.New("must be HOST:PORT, such as 127.0.0.1:3000")
		}
		return nil
	},
	"http url": func(s string) error {
		u, err := url.Parse(s)
		if s != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return errors.New("must be a URL that begins with http:// or https://")
		}
		return nil
	},
	"postgres url": func(s string) error {
		u, err := url.Parse(s)
		if s != "" && (err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return errors.New("must be a URL such as postgres://HOST:PORT/DATABASE")
		}
		return nil
	},
	"git domain": func(s string) error {
		name := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
		if name == "" || strings.ContainsAny(name, "/@*?# ") || strings.HasPrefix(name, "-") {
			return errors.New("must be a host such as github.com or git.example.com:8443, with http:// before it where passwords may go unencrypted")
		}
		return nil
	},
	"network": func(s string) error {
		if _, err := netip.ParsePrefix(s); err == nil {
			return nil
		}
		if _, err := netip.ParseAddr(s); err != nil {
			return errors.New("must be addresses such as 192.0.2.7 or networks such as 192.0.2.0/24")
		}
		return nil
	},
	"pattern": func(s string) error {
		if _, err := regexp.Compile(s); err != nil {
			return errors.New("must be regular expressions")
		}
		return nil
	},
}

// finding is what is wrong between keys. It is told where the first of them was set.
type finding struct {
	keys []string
	text string
}

// crossChecks looks for what only shows in the whole.
func (c *Config) crossChecks() (wrong, doubtful []finding) {
	switch c.Backend {
	case "redis":
		wrong = append(wrong, finding{[]string{"backend"}, "redis is not run by this version yet: use postgresql, or memory to try things out"})
	case "memory":
		if c.BackendURL != "" {
			doubtful = append(doubtful, finding{[]string{"backend_url", "backend"}, "has no effect with the backend memory"})
		}
	case "postgresql":
		if err := checks["postgres url"](c.BackendURL); err != nil {
			wrong = append(wrong, finding{[]string{"backend_url", "backend"}, err.Error() + ", or empty for the embedded server"})
		}
	}
	if declared := append(slices.Clone(c.Queues), c.Agent.Queues...); !slices.Contains(declared, c.DefaultQueue) {
		text := fmt.Sprintf("%s is not among the queues (%s)", quote(c.DefaultQueue), strings.Join(declared, ", "))
		wrong = append(wrong, finding{[]string{"default_queue", "queues", "agent.queues"}, text})
	}
	if c.Orchestrator.ClusterMode {
		doubtful = append(doubtful, finding{[]string{"orchestrator.cluster_mode"}, "has no effect yet: one orchestrator runs at a time"})
	}
	if scan := &c.Git.Security.Scan; scan.Enabled && strings.TrimSpace(scan.Command) == "" {
		wrong = append(wrong, finding{[]string{"git.security.scan.enabled"}, "needs git.security.scan.command, the command that scans"})
	}
	names := map[string]bool{}
	for i := range c.Git.Environments {
		name := c.Git.Environments[i].Name
		if name == "" || names[name] {
			text := "has an entry without a name"
			if name != "" {
				text = "has two entries with the name " + quote(name)
			}
			wrong = append(wrong, finding{[]string{"git.environments"}, text})
		}
		names[name] = true
	}
	for i := range c.Git.Auth.Credentials {
		if one := &c.Git.Auth.Credentials[i]; one.Domain == "" || one.Password == "" {
			wrong = append(wrong, finding{[]string{"git.auth.credentials"}, "has an entry without a domain or without a password"})
		}
	}
	return wrong, doubtful
}

// CheckListen says whether a process may listen on server.listen. Without a login, which this
// version does not have, everybody who reaches the address can run commands: so an address that
// others can reach is refused, unless insecure is set.
func (c *Config) CheckListen(insecure bool) error {
	host, _, err := net.SplitHostPort(c.Server.Listen)
	if err != nil {
		return fmt.Errorf("%s: server.listen must be HOST:PORT", c.Sources["server.listen"])
	}
	address, err := netip.ParseAddr(host)
	if insecure || host == "localhost" || err == nil && address.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: server.listen is %s, which others can reach, and nobody is asked for a login: "+
		"listen on 127.0.0.1, or say --insecure if the network keeps strangers out", c.Sources["server.listen"], c.Server.Listen)
}
