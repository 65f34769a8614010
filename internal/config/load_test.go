package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// load loads a file of the given text, with an environment and command-line arguments.
func load(t testing.TB, text string, environ []string, args ...string) (*Config, []Warning, error) {
	t.Helper()
	dir := t.TempDir()
	if text != "" {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.Bool("wait", false, "another's flag")
	RegisterFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if environ == nil {
		environ = []string{}
	}
	return Load(Options{Dir: dir, Flags: flags, Environ: environ})
}

func mustLoad(t *testing.T, text string, environ []string, args ...string) *Config {
	t.Helper()
	c, _, err := load(t, text, environ, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, warnings, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	type values struct {
		TaskDirectory, ParameterSetDirectory, Backend, BackendURL, ClusterID, DefaultQueue, Listen, Endpoint, Partition string
		Queues, AgentQueues, PublicPaths                                                                                []string
		Concurrency, Heartbeat, Rescues, Grace, Retention, Pending, LogBytes, OrchestratorBeat                          int
		Prometheus, Cleanup, Prepared                                                                                   bool
	}
	got := values{
		c.TaskDirectory, c.ParameterSetDirectory, c.Backend, c.BackendURL, c.ClusterID, c.DefaultQueue, c.Server.Listen, c.Monitoring.Prometheus.Endpoint, c.PostgreSQL.PartitionInterval,
		c.Queues, c.Agent.Queues, c.Security.PublicPaths,
		c.Agent.Concurrency, c.Agent.HeartbeatIntervalSeconds, c.Agent.MaxRescues, c.Agent.ShutdownGraceSeconds, c.PostgreSQL.RetentionDays, c.Orchestrator.MaxPendingSubmits, c.Logs.MaxBytesPerTask, c.Orchestrator.HeartbeatIntervalMS,
		c.Monitoring.Prometheus.Enabled, c.Agent.CleanupTempFiles, c.PostgreSQL.UsePreparedStatements,
	}
	want := values{
		"./data/tasks", "./data/parameter_sets", "postgresql", "", "default_cluster", "default", "127.0.0.1:3000", "/metrics", "day",
		[]string{"default"}, []string{}, []string{"/static/*", "/login", "/auth/*", "/health"},
		4, 5, 3, 30, 30, 1000000, 10485760, 700,
		true, true, true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, k := range allKeys {
		if c.Sources[k.path] != "default" {
			t.Errorf("the source of %s is %q", k.path, c.Sources[k.path])
		}
	}
}

func TestEveryKeyInAFile(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load(Options{File: "testdata/full.yaml", Environ: []string{"DB_PASSWORD=p", "GIT_TOKEN=token"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range allKeys {
		if !strings.HasPrefix(c.Sources[k.path], "testdata/full.yaml:") {
			t.Errorf("the source of %s is %q", k.path, c.Sources[k.path])
		}
	}
	for _, check := range []struct{ got, want any }{
		{c.BackendURL, "postgres://user:p@pg-host/cyclonetix"},
		{c.Git.Auth.Credentials, []GitCredential{{"github.com", "git-user", "token"}}},
		{c.GitSync.Repositories, []GitSyncRepository{{
			URL: "https://github.com/example/workflows.git", Branch: "main", PollIntervalSeconds: 60,
			Paths:       []GitSyncPath{{"tasks/", "./data/tasks"}, {Source: "dags/"}},
			Credentials: GitSyncCredentials{"git-user", "token"},
		}}},
		{c.Security.UserRoles, map[string][]string{"user@example.com": {"admin"}, "team": {"scheduler", "viewer"}}},
		{c.Security.BasicAuth.Users, []BasicUser{{"admin", "$2b$12$abc"}}},
		{c.Agent.Tags, []string{"region:us-east", "cpu:high"}},
	} {
		if diff := cmp.Diff(check.want, check.got); diff != "" {
			t.Error(diff)
		}
	}

	for _, k := range allKeys {
		told := slices.ContainsFunc(warnings, func(w Warning) bool { return w.Text == k.path+" has no effect yet" && w.Where == c.Sources[k.path] })
		if told != k.noEffect {
			t.Errorf("%s has an effect: %v; a warning says that it has none: %v", k.path, !k.noEffect, told)
		}
	}
	if !slices.ContainsFunc(warnings, func(w Warning) bool { return strings.HasPrefix(w.Text, "orchestrator.cluster_mode has no effect yet") }) {
		t.Error("no warning about cluster mode")
	}
}

// The file for the test above has to differ from the defaults, or the test would prove nothing.
func TestFileWithEveryKeyDiffersFromDefaults(t *testing.T) {
	t.Parallel()
	defaults := defaultLayer().values
	file := readFile("testdata/full.yaml", "full.yaml", func(name string) (string, bool) { return name, true })
	for _, k := range allKeys {
		if k.path != "backend" && cmp.Equal(defaults[k.path], file.values[k.path]) {
			t.Errorf("%s is as by default", k.path)
		}
	}
}

func TestOrderOfSources(t *testing.T) {
	t.Parallel()
	const file = "agent:\n  concurrency: 2\n  max_rescues: 2\n  queues: [a, b]\nqueues: [a, b, default]\n"
	environ := []string{"CYCLO_AGENT_CONCURRENCY=3", "CYCLO_AGENT_QUEUES=default, cpu_tasks", "CYCLO_REDIS_CLUSTER_MODE=true"}
	c := mustLoad(t, file, environ, "--agent-concurrency=4", "--backend-url=postgres://h/d", "--agent-tags=x:1,y:2", "--wait")
	if c.Agent.Concurrency != 4 || c.Agent.MaxRescues != 2 || c.BackendURL != "postgres://h/d" || !c.Redis.ClusterMode || c.Agent.HeartbeatIntervalSeconds != 5 {
		t.Errorf("got %+v", c)
	}
	if diff := cmp.Diff([]string{"default", "cpu_tasks"}, c.Agent.Queues); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x:1", "y:2"}, c.Agent.Tags); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{
		"agent.concurrency": "--agent-concurrency", "agent.max_rescues": "config.yaml:3:16", "agent.queues": "CYCLO_AGENT_QUEUES",
		"backend_url": "--backend-url", "backend": "default",
	} {
		if got := c.Sources[key]; got != want {
			t.Errorf("the source of %s is %s, not %s", key, got, want)
		}
	}
	// An empty variable is a value.
	if c := mustLoad(t, "backend_url: postgres://h/d", []string{"CYCLO_BACKEND_URL="}); c.BackendURL != "" {
		t.Errorf("backend_url is %q", c.BackendURL)
	}
}

func TestOldName(t *testing.T) {
	t.Parallel()
	for _, c := range []*Config{
		mustLoad(t, "ui: {listen: '127.0.0.1:1'}", nil),
		mustLoad(t, "", []string{"CYCLO_UI_LISTEN=127.0.0.1:1"}),
		mustLoad(t, "server: {listen: '127.0.0.1:2'}", nil, "--ui-listen=127.0.0.1:1"),
	} {
		if c.Server.Listen != "127.0.0.1:1" {
			t.Errorf("server.listen is %q", c.Server.Listen)
		}
	}
	_, _, err := load(t, "ui:\n  listen: '127.0.0.1:1'\nserver:\n  listen: '127.0.0.1:2'\n", nil)
	mustBe(t, err, "config.yaml:4:11: server.listen is set twice, by its old name ui.listen too: also at config.yaml:2:11")
	_, _, err = load(t, "", []string{"CYCLO_UI_LISTEN=127.0.0.1:1", "CYCLO_SERVER_LISTEN=127.0.0.1:2"})
	mustBe(t, err, "CYCLO_UI_LISTEN: server.listen is set twice: also at CYCLO_SERVER_LISTEN")
}

func mustBe(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want\n%s", want)
	} else if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"agent:\n  concurency: 3\n":                          `config.yaml:2:3: unknown key "agent.concurency" (did you mean agent.concurrency?)`,
		"listen: 127.0.0.1:1\n":                              `config.yaml:1:1: unknown key "listen" (did you mean server.listen?)`,
		"agnet: {concurrency: 3}":                            `config.yaml:1:1: unknown key "agnet" (did you mean agent?)`,
		"colour_of_the_sky: blue":                            `config.yaml:1:1: unknown key "colour_of_the_sky"`,
		"agent:\n  concurrency: many\n":                      `config.yaml:2:16: agent.concurrency must be an integer, not "many"`,
		"agent:\n  concurrency: 0\n":                         `config.yaml:2:16: agent.concurrency must be from 1 to 100000, not "0"`,
		"agent:\n  concurrency: [1]\n":                       `config.yaml:2:16: agent.concurrency must be an integer`,
		"agent:\n  concurrency: 1.5\n":                       `config.yaml:2:16: agent.concurrency must be an integer, not "1.5"`,
		"batch: {max_tasks: -1}":                             `config.yaml:1:20: batch.max_tasks must be at least 1, not "-1"`,
		"batch: {enabled: yes}":                              `config.yaml:1:18: batch.enabled must be true or false, not "yes"`,
		"backend: postgres":                                  `config.yaml:1:10: backend must be one of postgresql, redis, memory (did you mean postgresql?), not "postgres"`,
		"backend: redis":                                     `config.yaml:1:10: backend: redis is not run by this version yet: use postgresql, or memory to try things out`,
		"backend_url: redis://h":                             `config.yaml:1:14: backend_url: must be a URL such as postgres://HOST:PORT/DATABASE, or empty for the embedded server`,
		"cluster_id: a__b":                                   `config.yaml:1:13: cluster_id must be lower-case letters, digits and '_', 28 at most, with no '__' in it and no '_' at its end, not "a__b"`,
		"cluster_id: A":                                      `config.yaml:1:13: cluster_id must be lower-case letters, digits and '_', 28 at most, with no '__' in it and no '_' at its end, not "A"`,
		"server: {listen: 3000}":                             `config.yaml:1:18: server.listen must be HOST:PORT, such as 127.0.0.1:3000, not "3000"`,
		"server: {listen: 'h:99999'}":                        `config.yaml:1:18: server.listen must be HOST:PORT, such as 127.0.0.1:3000, not "h:99999"`,
		"default_queue: gpu":                                 `config.yaml:1:16: default_queue: "gpu" is not among the queues (default)`,
		"queues: [default, 'a b']":                           `config.yaml:1:9: queues must be letters, digits, '_', '.' and '-', 200 at most: "a b"`,
		"queues: [[a]]":                                      `config.yaml:1:9: queues must be a list of texts`,
		"queues: {a: b}":                                     `config.yaml:1:9: queues must be a list`,
		"postgresql: {partition_interval: year}":             `config.yaml:1:34: postgresql.partition_interval must be one of hour, day, week, month, not "year"`,
		"agent: 7":                                           `config.yaml:1:8: agent must be a table of names and values`,
		"- a":                                                `config.yaml:1:1: the configuration must be a table of names and values`,
		"backend: memory\nbackend: memory":                   `config.yaml:2:1: "backend" appears twice: also at config.yaml:1:1`,
		"backend: memory\n---\nbackend: memory":              `config.yaml:3:1: a second document: the configuration is one`,
		"agent: [1\nqueues: x":                               `config.yaml:2:7: no YAML: did not find expected ',' or ']' while parsing a flow sequence (begun in line 1)`,
		"agent:\n\tconcurrency: 2":                           `config.yaml:2:1: no YAML: found character that cannot start any token while scanning for the next token (begun in line 2)`,
		"a: \x00":                                            `config.yaml:1:4: byte 0x00 is no text`,
		"# ü\nb: \xff":                                       `config.yaml:2:4: byte 0xff is no text`,
		"task_directory: ${HOME_OF_TASKS}/x":                 `config.yaml:1:17: task_directory names the variable HOME_OF_TASKS, which is not set in the environment`,
		"task_directory: ${not a name}":                      `config.yaml:1:17: task_directory must have the name of a variable in ${…}; $${ stands for a plain ${`,
		"task_directory: ${open":                             `config.yaml:1:17: task_directory must have the name of a variable in ${…}; $${ stands for a plain ${`,
		"agent:\n  concurrency: ${N}":                        `config.yaml:2:16: agent.concurrency must be an integer, not "${N}"`,
		"security: {roles: [{name: a, permissions: [fly]}]}": `config.yaml:1:43: security.roles[].permissions must be one of read, write, execute, admin`,
		"security: {roles: [{nam: a}]}":                      `config.yaml:1:21: unknown key "security.roles[].nam" (did you mean security.roles[].name?)`,
		"security: {roles: admin}":                           `config.yaml:1:19: security.roles must be a list of tables`,
		"security: {user_roles: {a: b}}":                     `config.yaml:1:25: security.user_roles: the value of "a" must be a list of texts`,
		"security: {allowed_ips: [x]}":                       `config.yaml:1:25: security.allowed_ips must be addresses such as 192.0.2.7 or networks such as 192.0.2.0/24`,
		"? [a]\n: b":                                         `config.yaml:1:3: a name must be a plain text`,
	} {
		_, _, err := load(t, file, []string{"N=much"})
		mustBe(t, err, want)
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := load(t, "agent:\n  concurrency: x\n  heartbeat_interval_seconds: 0\nqueues: [' ']\ndefault_queue: other\nnope: 1\n",
		[]string{"CYCLO_AGENT_MAX_RESCUES=-1", "CYCLO_BACKENDURL=x", "CYCLO_GIT_AUTH_CREDENTIALS=secret"}, "--cluster-id=a__b", "--logging-level=loud")
	mustBe(t, err, `config.yaml:2:16: agent.concurrency must be an integer, not "x"
config.yaml:3:31: agent.heartbeat_interval_seconds must be from 1 to 3600, not "0"
config.yaml:4:9: queues must be letters, digits, '_', '.' and '-', 200 at most
config.yaml:6:1: unknown key "nope"
CYCLO_AGENT_MAX_RESCUES: agent.max_rescues must be at least 0, not "-1"
CYCLO_BACKENDURL: no setting has this variable (did you mean CYCLO_BACKEND_URL?)
CYCLO_GIT_AUTH_CREDENTIALS: git.auth.credentials can only be set in the file
--cluster-id: cluster_id must be lower-case letters, digits and '_', 28 at most, with no '__' in it and no '_' at its end, not "a__b"
--logging-level: logging.level must be one of trace, debug, info, warn, error, not "loud"`)
	var one Error
	if !errors.As(err, &one) || one.Where != "config.yaml:2:16" {
		t.Errorf("the first error is %+v", one)
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	_, _, err := Load(Options{File: "nowhere.yaml", Dir: t.TempDir(), Environ: []string{}})
	mustBe(t, err, "nowhere.yaml: read configuration: no such file or directory")
	_, _, err = Load(Options{File: ".", Dir: t.TempDir(), Environ: []string{}})
	mustBe(t, err, ".: read configuration: is a directory")
	for _, text := range []string{"# nothing\n", "---\n", "agent:\n", "null"} {
		mustLoad(t, text, nil)
	}
	_, _, err = load(t, "#"+strings.Repeat("x", maxFileSize), nil)
	mustBe(t, err, "config.yaml: is longer than 1 MB, which no configuration is")
}

func TestMultiplyingAliases(t *testing.T) {
	t.Parallel()
	ten := func(s string) string { return "[" + strings.Repeat(s+", ", 999) + s + "]" }
	text := "queues: &q " + ten("q") + "\nsecurity:\n  roles: " + ten("{permissions: *q}") + "\n"
	_, _, err := load(t, text, nil)
	if err == nil || !strings.Contains(err.Error(), "a configuration has at most 100000 values") {
		t.Errorf("got %.300v", err)
	}
	// Used with measure, they are fine.
	c := mustLoad(t, "queues: &q [default, a]\nagent:\n  queues: *q\n", nil)
	if diff := cmp.Diff(c.Queues, c.Agent.Queues); diff != "" {
		t.Error(diff)
	}
}

func TestVariablesInValues(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `
task_directory: ${BASE}/tasks
dag_directory: $${BASE}/$dags
agent:
  concurrency: ${N}
  queues: ["${Q}", default]
  tags: ${TAGS}
git_sync:
  repositories: [{url: u, paths: [{source: a, destination: "${CYCLO_CONFIG_DIRECTORY}"}]}]
`, []string{"BASE=/srv", "N=7", "Q=gpu", "TAGS=a:1,b:2", "CYCLO_CONFIG_DIRECTORY=/c"})
	if c.TaskDirectory != "/srv/tasks" || c.DAGDirectory != "${BASE}/$dags" || c.Agent.Concurrency != 7 {
		t.Errorf("got %+v", c)
	}
	if diff := cmp.Diff([][]string{{"gpu", "default"}, {"a:1", "b:2"}}, [][]string{c.Agent.Queues, c.Agent.Tags}); diff != "" {
		t.Error(diff)
	}
}

func TestVariablesThatAreNoSettings(t *testing.T) {
	t.Parallel()
	var environ []string
	for _, name := range taskVariables {
		environ = append(environ, name+"=x")
	}
	mustLoad(t, "", append(environ, "CYCLO_TEST_DATABASE_URL=x", "PATH=/bin", "cyclo_x=y", "CYCLOPS=1"))
	_, _, err := load(t, "", []string{"CYCLO_AGENT_CONCURENCY=3"})
	mustBe(t, err, "CYCLO_AGENT_CONCURENCY: no setting has this variable (did you mean CYCLO_AGENT_CONCURRENCY?)")
}

func TestNoSecretsInErrors(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, file := range []string{
		"backend_url: mysql://user:hunter2@host/db",
		"backend_url: 'postgres://user:hun%ter2/hunter2@host/db'",
		"backend_url: 'host=h password=hunter2'",
		"backend_url: [postgres://user:hunter2@host/db]",
		"backend: postgres://user:hunter2@host/db",
		"backend: host=h password=hunter2",
		"postgresql: {replica_urls: ['http://u:hunter2@h']}",
		"postgresql: {direct_url: 'http://u:hunter2@h'}",
		"agent: {concurrency: '${PW}'}",
		"server: {advertise_url: 'ftp://u:hunter2@h'}",
		"'postgres://user:hunter2@host/db': 1",
		"backend_url postgres://user:hunter2@host/db: 1",
		"agent: {queues: ['redis://:hunter2@h', b]}",
		"backend_url: 'postgres://user:hunter2@host/db",
		"backend_url: postgres://user:hunter2@host/db: x",
	} {
		_, _, err := load(t, file, []string{"PW=hunter2", "CYCLO_SECURITY_COOKIE_SECRET=x"}, "--security-cookie-secret=hunter2")
		if err == nil {
			t.Errorf("%s: no error", file)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", file, err)
		}
	}
	_, _, err := load(t, "", []string{"CYCLO_BACKEND_URL=hunter2", "CYCLO_GIT_AUTH_CREDENTIALS=hunter2"}, "--postgresql-direct-url=hunter2", "--logging-level=redis://:hunter2@h")
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	_, warnings, err := load(t, "security:\n  enabled: true\nbackend: memory\n", []string{"CYCLO_BATCH_ENABLED=false"}, "--ui-theme=light", "--backend-url=postgres://u:hunter2@h")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	want := []string{
		"CYCLO_BATCH_ENABLED: batch.enabled has no effect yet",
		"--ui-theme: ui.theme has no effect yet",
		"config.yaml:2:12: security.enabled has no effect yet",
		"--backend-url: backend_url has no effect with the backend memory",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"127.0.0.1:3000": false, "localhost:0": false, "[::1]:3000": false, "127.9.9.9:1": false, "[::ffff:127.0.0.1]:1": false,
		"0.0.0.0:3000": true, ":3000": true, "[::]:3000": true, "192.0.2.1:80": true, "example.com:80": true,
	} {
		// Asking for a login makes no difference while there is none.
		c := mustLoad(t, "security: {enabled: true}", nil, "--server-listen="+address)
		err := c.CheckListen(false)
		if (err != nil) != public {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "--server-listen: ") || !strings.Contains(err.Error(), "--insecure")) {
			t.Errorf("%s: %v", address, err)
		}
		if err := c.CheckListen(true); err != nil {
			t.Errorf("%s, insecure: %v", address, err)
		}
	}
}

func TestNamesAreUnambiguous(t *testing.T) {
	t.Parallel()
	variables, flags := map[string]string{}, map[string]string{}
	for _, k := range allKeys {
		for _, path := range []string{k.path, k.alias} {
			if path == "" {
				continue
			}
			if other, ok := variables[environmentName(path)]; ok {
				t.Errorf("%s and %s have the same variable", path, other)
			}
			if other, ok := flags[flagName(path)]; ok {
				t.Errorf("%s and %s have the same flag", path, other)
			}
			if slices.Contains(taskVariables, environmentName(path)) {
				t.Errorf("the variable of %s is one of tasks", path)
			}
			variables[environmentName(path)], flags[flagName(path)] = path, path
		}
		if k.plain() && k.usage == "" {
			t.Errorf("%s has no usage", k.path)
		}
	}
	if variables["CYCLO_BACKEND_URL"] != "backend_url" || flags["agent-heartbeat-interval-seconds"] != "agent.heartbeat_interval_seconds" {
		t.Error("names are not as documented")
	}
}

func TestHelpShowsWhatWorks(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	RegisterFlags(flags)
	help := flags.FlagUsages()
	for flag, shown := range map[string]bool{"--agent-concurrency int": true, "--queues strings": true, "--ui-theme": false, "--ui-listen": false} {
		if strings.Contains(help, flag) != shown {
			t.Errorf("%s in the help: %v", flag, !shown)
		}
	}
}

func FuzzLoad(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, seed := range []string{
		"", "agent: &a {queues: [*a]}", "a: &a [*a]", "queues: &q [*q]", "security: {roles: &r [*r, {permissions: *r}]}",
		"git_sync: {repositories: [{paths: [a, {source: b}, [c]]}]}", "task_directory: ${A${B}}$${", "? {a: b}\n: c", "<<: {a: b}", "!!binary a: !!int b", "- ", "---\n---\n", "\ufeffagent:",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), FileName)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(Options{File: path, Environ: []string{"A=1", "DB_PASSWORD=x", "GIT_TOKEN=x"}})
		if c == nil {
			t.Fatalf("configuration %v, error %v", c, err)
		}
		if err == nil {
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("the error is a %T", err)
		}
		for _, one := range all {
			if !strings.HasPrefix(one.Where, path) || one.Text == "" || strings.Contains(one.Text, "\n") {
				t.Errorf("error %q", one)
			}
		}
	})
}
