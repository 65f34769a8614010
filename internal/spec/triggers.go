package spec

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

const (
	maxPath            = 4000  // bytes of the path of a folder
	maxFileWait        = 86400 // seconds
	defaultFileWait    = 5
	defaultFilePattern = "*"
	maxListens         = 1000 // DAGs that one DAG listens to
)

var triggerFields = []field[dagDraft]{
	{
		name: "file_arrival", form: mapForm(fileArrivalFields), about: "Starts a run for each file that comes to be in a folder of the server.",
		read: readFileArrival,
	},
	{
		name: "webhook", form: mapForm(webhookFields), about: "Starts a run for each signed POST to /api/triggers/DAG_ID.",
		read: readWebhook,
	},
	{
		name: "dag_completed", form: listForm(idForm()).with(Form{"minItems": 1, "maxItems": maxListens, "uniqueItems": true}),
		about: "DAGs of which each run that completes starts a run of this one.",
		read:  readDAGCompleted,
	},
}

var fileArrivalFields = []field[workflow.FileArrival]{
	{
		name: "path", required: true, form: Form{"type": "string", "minLength": 1, "maxLength": maxPath},
		about: "The folder: absolute, or below the server's working directory.",
		read:  func(v value, f *workflow.FileArrival) { f.Path = v.folder() },
	},
	{
		name: "pattern", form: labelForm().with(Form{"minLength": 1, "pattern": "^[^/]*$", "default": defaultFilePattern}),
		about: "Which names of files count, with *, ? and [a-z].",
		read:  func(v value, f *workflow.FileArrival) { f.Pattern = v.glob() },
	},
	{
		name: "wait_seconds", form: Form{"type": "number", "minimum": 0, "maximum": maxFileWait, "default": defaultFileWait},
		about: "How long a file must have stayed as it is.",
		read: func(v value, f *workflow.FileArrival) {
			if f.WaitSeconds = v.seconds(); f.WaitSeconds > maxFileWait {
				v.problem("%s must be from 0 to %d seconds, not %s", v.what, maxFileWait, cut(v.node.Value))
			}
		},
	},
}

var webhookFields = []field[workflow.Webhook]{
	{
		name: "secret", required: true, form: labelForm().with(Form{"minLength": 1}),
		about: "What calls are signed with: ${env:NAME} or ${secret:NAME}, which the server looks up, or the secret itself.",
		read:  func(v value, w *workflow.Webhook) { w.Secret = v.webhookSecret() },
	},
}

func readTriggers(v value, d *dagDraft) {
	d.Triggers = &workflow.Triggers{}
	before := len(v.reader.problems)
	given, ok := readFields(v, "DAG's triggers", triggerFields, d)
	if ok && len(given) == 0 && len(v.reader.problems) == before {
		v.problem("triggers names none")
		v.reader.hint("give it file_arrival, webhook or dag_completed, or leave it out")
	}
}

func readFileArrival(v value, d *dagDraft) {
	files := &workflow.FileArrival{Pattern: defaultFilePattern, WaitSeconds: defaultFileWait}
	given, ok := readFields(v, "file_arrival", fileArrivalFields, files)
	if ok && !slices.Contains(given, "path") {
		v.problem("this file_arrival has no path")
		v.reader.hint("give it the folder that files come to")
	}
	d.Triggers.FileArrival = files
}

func readWebhook(v value, d *dagDraft) {
	d.Triggers.Webhook = &workflow.Webhook{}
	given, ok := readFields(v.hidden(), "webhook", webhookFields, d.Triggers.Webhook)
	if ok && !slices.Contains(given, "secret") {
		v.problem("this webhook has no secret")
		v.reader.hint(`give it one, such as secret: "${env:DEPLOY_HOOK_SECRET}"`)
	}
}

func readDAGCompleted(v value, d *dagDraft) {
	v.items(func(item value) {
		item.what = "a DAG of dag_completed"
		id := item.id()
		if id != "" && slices.Contains(d.Triggers.DAGCompleted, id) {
			item.problem("dag_completed names DAG %q twice", id)
		}
		d.Triggers.DAGCompleted = append(d.Triggers.DAGCompleted, id)
		d.at.listens = append(d.at.listens, item.place())
	})
	switch n := len(d.Triggers.DAGCompleted); {
	case n == 0 && v.isList():
		v.problem("dag_completed names no DAG")
	case n > maxListens:
		v.problem("dag_completed names %d DAGs; at most %d can be", n, maxListens)
	}
}

// folder is the path of a folder.
func (v value) folder() string {
	path, ok := v.text()
	switch {
	case !ok:
	case path == "":
		v.problem("%s is empty", v.what)
	case len(path) > maxPath:
		v.problem("%s has more than %d bytes", v.what, maxPath)
	case hasReference(path):
		v.problem("%s takes no ${…}", v.what)
		v.reader.hint("write the folder itself: absolute, or below the server's working directory")
	default:
		return path
	}
	return ""
}

// glob is a pattern for names of files.
func (v value) glob() string {
	pattern, ok := v.label()
	if !ok {
		return ""
	}
	_, err := filepath.Match(pattern, "")
	switch {
	case pattern == "":
		v.problem("%s is empty", v.what)
	case strings.Contains(pattern, "/"):
		v.problem("%s %s has a /: it is for names, in the one folder", v.what, quote(pattern))
	case err != nil:
		v.problem("%s %s is not a pattern such as *.csv or report_[0-9]*", v.what, quote(pattern))
	}
	return pattern
}

// webhookSecret is the secret of a webhook, or where to look it up. No message shows it.
func (v value) webhookSecret() string {
	v = v.hidden()
	v.what = "the secret of a webhook"
	secret, ok := v.label()
	if !ok {
		return ""
	}
	if secret == "" {
		v.problem("%s is empty", v.what)
	} else if _, err := WebhookSecret(secret, noLookups); err != nil {
		v.problem("%s: %v", v.what, err)
	}
	return secret
}

// noLookups finds anything: it is for a look at how a secret is written.
var noLookups = Lookups{
	Env:    func(string) (string, bool) { return "x", true },
	Secret: func(string) (string, error) { return "x", nil },
}

// WebhookSecret is the secret of a webhook, which a definition gives as it is or by a reference. The error shows
// nothing of it.
func WebhookSecret(written string, lookups Lookups) (string, error) {
	before, reference, after, found, err := cutReference(written)
	switch {
	case err != nil:
		return "", err
	case !found:
		return before, nil
	}
	kind, name, _ := strings.Cut(reference, ":")
	switch {
	case before != "" || after != "" || kind != "env" && kind != "secret":
		return "", errors.New("it must be ${env:NAME} or ${secret:NAME} alone, or the secret itself, in which $${ stands for ${")
	case kind == "secret" && !workflow.ValidID(name):
		return "", errors.New("a secret is named with 1 to 200 of the characters A-Z a-z 0-9 _ . -")
	case kind == "env" && !envName.MatchString(name):
		return "", errors.New("what follows env: is no name of an environment variable")
	case kind == "env" && strings.HasPrefix(name, SecretVariables):
		return "", errors.New("secrets are named as ${secret:NAME}")
	}
	var secret string
	switch {
	case kind == "secret" && lookups.Secret != nil:
		secret, err = lookups.Secret(name)
	case kind == "env" && lookups.Env != nil:
		var ok bool
		if secret, ok = lookups.Env(name); !ok {
			err = fmt.Errorf("the server has no environment variable %s", name)
		}
	default:
		err = fmt.Errorf("there is nobody to look ${%s} up", reference)
	}
	if err == nil && secret == "" {
		err = fmt.Errorf("${%s} is empty", reference)
	}
	return secret, err
}
