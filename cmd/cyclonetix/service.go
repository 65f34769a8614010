package main

import (
	"context"
	"errors"
	"os/user"
	"time"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/client"
	"github.com/cyclonetix/cyclonetix/internal/config"
	"github.com/cyclonetix/cyclonetix/internal/discovery"
	"github.com/cyclonetix/cyclonetix/internal/postgres"
)

// connectTime bounds how long a command waits for the backend to answer at first.
const connectTime = 10 * time.Second

// service finds what a command works with: the server of --server; else the database of the
// configuration; else the server that runs on this machine, which is asked over HTTP when its state
// is in its memory, and whose database is used when there is one.
func (p *program) service(ctx context.Context) (service api.Service, done func(), err error) {
	if p.server != "" {
		remote, err := client.New(p.server)
		if err != nil {
			return nil, nil, &usageError{"--server: " + err.Error(), "cyclonetix"}
		}
		return remote, func() {}, nil
	}
	settings, _, err := p.configuration()
	if err != nil {
		return nil, nil, err
	}
	url, running, err := p.database(settings)
	switch {
	case err != nil:
		return nil, nil, err
	case url == "":
		remote, err := client.New(running.URL)
		return remote, func() {}, err
	}
	connect, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	options := postgresOptions(settings, url, nil)
	options.Visit = true
	backend, err := postgres.Open(connect, options)
	if err != nil {
		return nil, nil, p.explainDatabase(err)
	}
	return api.NewDirect(backend, api.DirectOptions{
		Actor: userName(), Cause: "cli", Version: programVersion(),
	}), backend.Close, nil
}

// database is the URL of the database to work with; empty when the running server keeps its state
// in its memory.
func (p *program) database(settings *config.Config) (url string, running discovery.Info, err error) {
	if settings.Backend == backendPostgres && settings.BackendURL != "" {
		return settings.BackendURL, running, nil
	}
	running, err = discovery.Find(settings.ClusterID)
	if other, ok := errors.AsType[*discovery.OtherClusterError](err); ok {
		return "", running, explainOther(other)
	}
	if errors.Is(err, discovery.ErrNoServer) {
		return "", running, withHint(errors.New("no server runs on this machine, and no database is configured"),
			"start one with `cyclonetix serve`, or give --server URL or --backend-url URL")
	}
	if err != nil {
		return "", running, err
	}
	return running.BackendURL, running, nil
}

// explainOther says how to reach a server of another cluster.
func explainOther(other *discovery.OtherClusterError) error {
	found := other.Found[0].ClusterID
	if len(other.Found) > 1 {
		return withHint(other, "to work with one of them, give --cluster-id, or set cluster_id in the configuration; `cyclonetix serve` starts one of cluster %s", other.Wanted)
	}
	return withHint(other, "to work with it, give --cluster-id %s, or set cluster_id: %s in the configuration; `cyclonetix serve` starts one of cluster %s", found, found, other.Wanted)
}

// userName is who calls the program, as the runs that they start tell.
func userName() string {
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return ""
}
