// Package config loads the configuration: config.yaml, environment and flags, over defaults.
//
// The fields of Config are the whole list of keys; their tags say the rest:
//
//	koanf    the name in the file; with the names above it, the key: agent.concurrency
//	default  the value when nothing sets it; lists with commas
//	usage    one line for people
//	min,max  bounds of a number
//	oneof    the only values, with commas
//	check    the name of a function in checks
//	secret   its value never shows up in a text
//	effect   "none": accepted, but this version does not act on it; setting it gives a Warning
//	alias    an older name of the key
//	scalar   in a list of tables: an entry that is no table means this field
//
// From the key follow the environment name (CYCLO_AGENT_CONCURRENCY) and the flag
// (--agent-concurrency). Durations are integers in the unit that the name says.
package config

// Config is the configuration in force.
type Config struct {
	TaskDirectory         string `koanf:"task_directory" default:"./data/tasks" usage:"directory of task definitions"`
	DAGDirectory          string `koanf:"dag_directory" default:"./data/dags" usage:"directory of DAG definitions"`
	ContextDirectory      string `koanf:"context_directory" default:"./data/contexts" usage:"directory of contexts"`
	ParameterSetDirectory string `koanf:"parameter_set_directory" default:"./data/parameter_sets" usage:"directory of parameter sets"`

	Backend             string `koanf:"backend" default:"postgresql" oneof:"postgresql,redis,memory" usage:"where state is kept: postgresql, redis or memory"`
	BackendURL          string `koanf:"backend_url" secret:"true" usage:"URL of the backend; empty with postgresql: the embedded server"`
	ClusterID           string `koanf:"cluster_id" default:"default_cluster" check:"cluster id" usage:"tells apart clusters that share one backend"`
	SerializationFormat string `koanf:"serialization_format" default:"json" oneof:"json,binary" effect:"none" usage:"format of messages: json or binary"`
	DefaultContext      string `koanf:"default_context" usage:"context of runs that name none"`

	Embedded   Embedded   `koanf:"embedded"`
	Redis      Redis      `koanf:"redis"`
	PostgreSQL PostgreSQL `koanf:"postgresql"`

	Queue        Queue    `koanf:"queue"`
	Queues       []string `koanf:"queues" default:"default" check:"name" usage:"queues that tasks may name"`
	DefaultQueue string   `koanf:"default_queue" default:"default" check:"name" usage:"queue of tasks that name none"`
	Batch        Batch    `koanf:"batch"`

	Agent        Agent        `koanf:"agent"`
	Orchestrator Orchestrator `koanf:"orchestrator"`
	Server       Server       `koanf:"server"`
	UI           UI           `koanf:"ui"`
	Logging      Logging      `koanf:"logging"`
	Logs         Logs         `koanf:"logs"`
	Monitoring   Monitoring   `koanf:"monitoring"`
	Git          Git          `koanf:"git"`
	GitSync      GitSync      `koanf:"git_sync"`
	Security     Security     `koanf:"security"`

	// Sources tells for each key what set it: "default", "config.yaml:3:5",
	// "CYCLO_BACKEND_URL" or "--backend-url".
	Sources map[string]string `koanf:"-"`
}

// Embedded is the private PostgreSQL server that runs when backend_url is empty.
type Embedded struct {
	DataDirectory string `koanf:"data_directory" usage:"where the embedded PostgreSQL keeps its data; empty: the user's data directory"`
}

// Redis is the connection to Redis.
type Redis struct {
	ClusterMode         bool `koanf:"cluster_mode" default:"false" effect:"none" usage:"the URL names seeds of a Redis Cluster"`
	ReadFromReplicas    bool `koanf:"read_from_replicas" default:"false" effect:"none" usage:"pages and API read from replicas"`
	ConnectionPoolSize  int  `koanf:"connection_pool_size" default:"10" min:"1" effect:"none" usage:"connections of one process"`
	ConnectionTimeoutMS int  `koanf:"connection_timeout_ms" default:"1000" min:"1" effect:"none" usage:"time to connect, in milliseconds"`
	RetryIntervalMS     int  `koanf:"retry_interval_ms" default:"100" min:"1" effect:"none" usage:"time between tries, in milliseconds"`
	MaxRetries          int  `koanf:"max_retries" default:"3" min:"0" effect:"none" usage:"tries after the first"`
}

// PostgreSQL is the connection to PostgreSQL, and how its tables are kept.
type PostgreSQL struct {
	MaxConnections            int      `koanf:"max_connections" default:"10" min:"1" max:"10000" usage:"connections of one process"`
	StatementTimeoutSeconds   int      `koanf:"statement_timeout_seconds" default:"30" min:"1" usage:"longest time of a statement, in seconds"`
	UsePreparedStatements     bool     `koanf:"use_prepared_statements" default:"true" usage:"false behind a transaction pooler"`
	ConnectionLifetimeSeconds int      `koanf:"connection_lifetime_seconds" default:"3600" min:"1" usage:"longest life of a connection, in seconds"`
	DirectURL                 string   `koanf:"direct_url" check:"postgres url" secret:"true" usage:"unpooled URL, for LISTEN and migrations"`
	ReplicaURLs               []string `koanf:"replica_urls" check:"postgres url" secret:"true" effect:"none" usage:"URLs of replicas that pages and API read from"`
	MaxReplicaLagSeconds      int      `koanf:"max_replica_lag_seconds" default:"5" min:"0" effect:"none" usage:"a replica further behind is not read, in seconds"`
	PartitionInterval         string   `koanf:"partition_interval" default:"day" oneof:"hour,day,week,month" usage:"time that one partition of the history spans"`
	RetentionDays             int      `koanf:"retention_days" default:"30" min:"1" usage:"age at which history is dropped, in days"`
}

// Queue is a queue apart from the state.
type Queue struct {
	Backend string `koanf:"backend" oneof:",postgresql,redis,memory" effect:"none" usage:"backend of the queues; empty: the same as backend"`
	URL     string `koanf:"url" secret:"true" effect:"none" usage:"URL of the Redis for the queues"`
}

// Batch groups small tasks.
type Batch struct {
	Enabled         bool `koanf:"enabled" default:"false" effect:"none" usage:"run small tasks in groups"`
	MaxTasks        int  `koanf:"max_tasks" default:"10" min:"1" effect:"none" usage:"tasks of a group at most"`
	MaxDelaySeconds int  `koanf:"max_delay_seconds" default:"5" min:"0" effect:"none" usage:"time to wait for a group to fill, in seconds"`
}

// Agent runs tasks.
type Agent struct {
	// Queues that the agent serves; none means all.
	Queues                   []string           `koanf:"queues" check:"name" usage:"queues that the agent serves; empty: all"`
	Tags                     []string           `koanf:"tags" check:"not empty" usage:"what tasks may require of an agent"`
	Concurrency              int                `koanf:"concurrency" default:"4" min:"1" max:"100000" usage:"tasks at once, over all queues"`
	HeartbeatIntervalSeconds int                `koanf:"heartbeat_interval_seconds" default:"5" min:"1" max:"3600" usage:"time between beats, in seconds; an agent is lost after three missed"`
	MaxRescues               int                `koanf:"max_rescues" default:"3" min:"0" usage:"new attempts of a task whose agents were lost"`
	ExecutionTimeoutSeconds  int                `koanf:"execution_timeout_seconds" default:"3600" min:"1" usage:"longest time of an attempt, where a task says nothing, in seconds"`
	CleanupTempFiles         bool               `koanf:"cleanup_temp_files" default:"true" usage:"remove an attempt's folder when it has ended"`
	ShutdownGraceSeconds     int                `koanf:"shutdown_grace_seconds" default:"30" min:"0" usage:"time that running tasks get after SIGTERM, in seconds"`
	ResourceAllocation       ResourceAllocation `koanf:"resource_allocation"`
	Execution                Execution          `koanf:"execution"`
}

// ResourceAllocation is what a task may use.
type ResourceAllocation struct {
	MemoryPerTaskMB  int `koanf:"memory_per_task_mb" default:"0" min:"0" effect:"none" usage:"memory of a task, in MB; 0: no limit"`
	CPUWeightPerTask int `koanf:"cpu_weight_per_task" default:"1" min:"1" effect:"none" usage:"share of the processors"`
}

// Execution is how a task's process runs.
type Execution struct {
	User            string   `koanf:"user" effect:"none" usage:"user that tasks run as; empty: the agent's"`
	CgroupLimits    bool     `koanf:"cgroup_limits" default:"false" effect:"none" usage:"limit tasks by cgroups"`
	MemoryLimitMB   int      `koanf:"memory_limit_mb" default:"0" min:"0" max:"1000000000" usage:"memory that tasks may set aside together, in MB; 0: what the machine has"`
	CPULimitPercent int      `koanf:"cpu_limit_percent" default:"0" min:"0" max:"10000000" usage:"processors that tasks may set aside together, in percent of one; 0: what the machine has"`
	InheritEnv      []string `koanf:"inherit_env" check:"variable" usage:"variables of the agent's own environment that tasks see"`
}

// Orchestrator decides what runs next.
type Orchestrator struct {
	ID                        string `koanf:"id" default:"auto" check:"name" usage:"name of this orchestrator; auto: made at the start"`
	ClusterMode               bool   `koanf:"cluster_mode" default:"false" usage:"several orchestrators share the work"`
	HeartbeatIntervalMS       int    `koanf:"heartbeat_interval_ms" default:"700" min:"10" max:"60000" usage:"time between beats, in milliseconds"`
	DistributionAlgorithm     string `koanf:"distribution_algorithm" default:"consistent_hash" oneof:"consistent_hash,rendezvous" effect:"none" usage:"how orchestrators share the work"`
	EvaluationIntervalSeconds int    `koanf:"evaluation_interval_seconds" default:"5" min:"1" max:"3600" usage:"time between safety sweeps, in seconds"`
	MaxParallelEvaluations    int    `koanf:"max_parallel_evaluations" default:"10" min:"1" effect:"none" usage:"runs evaluated at once"`
	EnableAutoRecovery        bool   `koanf:"enable_auto_recovery" default:"true" effect:"none" usage:"rescue what ran when a process died"`
	MaxPendingSubmits         int    `koanf:"max_pending_submits" default:"1000000" min:"1" usage:"pending runs beyond which new ones are refused"`
}

// Server is what listens: pages, API and the agents' doorbell.
type Server struct {
	Listen       string `koanf:"listen" alias:"ui.listen" default:"127.0.0.1:3000" check:"listen" usage:"address of pages and API"`
	AdvertiseURL string `koanf:"advertise_url" check:"http url" usage:"URL at which others reach this server; empty: from its address"`
}

// UI is the pages.
type UI struct {
	Title                  string    `koanf:"title" default:"Cyclonetix" usage:"title of the pages"`
	LogoPath               string    `koanf:"logo_path" effect:"none" usage:"file of a logo"`
	Theme                  string    `koanf:"theme" default:"dark" oneof:"dark,light" effect:"none" usage:"colours of the pages: dark or light"`
	RefreshIntervalSeconds int       `koanf:"refresh_interval_seconds" default:"10" min:"1" usage:"time between reloads where there is no live update, in seconds"`
	DefaultView            string    `koanf:"default_view" default:"dashboard" effect:"none" usage:"page to begin with"`
	MaxDAGNodes            int       `koanf:"max_dag_nodes" default:"500" min:"1" effect:"none" usage:"nodes of a graph shown at once"`
	CacheSeconds           int       `koanf:"cache_seconds" default:"2" min:"0" effect:"none" usage:"age of data that clients share, in seconds"`
	WebSocket              WebSocket `koanf:"websocket"`
}

// WebSocket is the live updates of the pages.
type WebSocket struct {
	MaxClients          int `koanf:"max_clients" default:"10000" min:"1" effect:"none" usage:"clients at once"`
	SendBuffer          int `koanf:"send_buffer" default:"64" min:"1" effect:"none" usage:"frames that wait for a slow client"`
	PingIntervalSeconds int `koanf:"ping_interval_seconds" default:"30" min:"1" effect:"none" usage:"time between pings, in seconds"`
}

// Logging is the log of this program.
type Logging struct {
	Level  string `koanf:"level" default:"info" oneof:"trace,debug,info,warn,error" usage:"least level that is logged"`
	Format string `koanf:"format" default:"text" oneof:"text,json" usage:"form of the log: text or json"`
	File   string `koanf:"file" usage:"file of the log; empty: standard error"`
	Syslog bool   `koanf:"syslog" default:"false" usage:"log to syslog"`
}

// Logs is the output of tasks.
type Logs struct {
	MaxBytesPerTask int `koanf:"max_bytes_per_task" default:"10485760" min:"1024" usage:"kept output of an attempt, in bytes"`
}

// Monitoring is what is told to monitoring systems.
type Monitoring struct {
	Prometheus Prometheus `koanf:"prometheus"`
	Metrics    Metrics    `koanf:"metrics"`
	Tracing    Tracing    `koanf:"tracing"`
}

// Prometheus is the page that Prometheus reads.
type Prometheus struct {
	Enabled  bool   `koanf:"enabled" default:"true" usage:"serve metrics for Prometheus"`
	Endpoint string `koanf:"endpoint" default:"/metrics" check:"path" usage:"path of the metrics"`
}

// Metrics chooses groups of metrics.
type Metrics struct {
	IncludeTaskMetrics  bool `koanf:"include_task_metrics" default:"true" effect:"none" usage:"metrics of tasks"`
	IncludeQueueMetrics bool `koanf:"include_queue_metrics" default:"true" effect:"none" usage:"metrics of queues"`
	IncludeAgentMetrics bool `koanf:"include_agent_metrics" default:"true" effect:"none" usage:"metrics of agents"`
}

// Tracing is OpenTelemetry.
type Tracing struct {
	OTLPEndpoint string `koanf:"otlp_endpoint" effect:"none" usage:"URL of an OpenTelemetry collector"`
}
