package config

import "testing"

// TestGitIsChecked tells what git lacks, and shows nothing that may be a password.
func TestGitIsChecked(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"git: {environments: [{setup_commands: [x]}]}":                          "config.yaml:1:21: git.environments: has an entry without a name",
		"git: {environments: [{name: a}, {name: a}]}":                           `config.yaml:1:21: git.environments: has two entries with the name "a"`,
		"git: {environments: [{name: a b}]}":                                    `config.yaml:1:29: git.environments[].name must be letters, digits, '_', '.' and '-', 200 at most, not "a b"`,
		"git: {auth: {credentials: [{domain: a}]}}":                             "config.yaml:1:27: git.auth.credentials: has an entry without a domain or without a password",
		"git: {auth: {credentials: [{domain: 'https://u:pw@a', password: b}]}}": "config.yaml:1:37: git.auth.credentials[].domain must be a host such as github.com or git.example.com:8443, with http:// before it where passwords may go unencrypted",
		"git: {security: {scan: {enabled: true}}}":                              "config.yaml:1:34: git.security.scan.enabled: needs git.security.scan.command, the command that scans",
	} {
		_, _, err := load(t, file, nil)
		mustBe(t, err, want)
	}
}
