package config

// Git is how tasks get files from repositories.
type Git struct {
	Cache        GitCache         `koanf:"cache"`
	Auth         GitAuth          `koanf:"auth"`
	Environments []GitEnvironment `koanf:"environments"`
	Security     GitSecurity      `koanf:"security"`
}

// GitCache keeps clones.
type GitCache struct {
	Enabled    bool   `koanf:"enabled" default:"true" usage:"keep what was fetched for other tasks"`
	Path       string `koanf:"path" usage:"where clones are kept; empty: the user's cache directory"`
	MaxSizeMB  int    `koanf:"max_size_mb" default:"1000" min:"1" usage:"size of all clones, in MB; beyond it the least recently used go"`
	TTLMinutes int    `koanf:"ttl_minutes" default:"60" min:"0" usage:"age at which a branch or tag is fetched anew, in minutes; 0: for each task"`
}

// GitAuth is how repositories are opened.
type GitAuth struct {
	SSHKeyPath  string          `koanf:"ssh_key_path" usage:"file of the SSH key"`
	Credentials []GitCredential `koanf:"credentials"`
}

// GitCredential opens the repositories of a domain.
type GitCredential struct {
	// Domain is a host with its port, if it has one; no error shows it, lest somebody write a password into it. One goes over https alone, unless http:// stands before it.
	Domain string `koanf:"domain" check:"git domain" secret:"true"`
	// Username may be empty where the password is a token.
	Username string `koanf:"username"`
	Password string `koanf:"password" secret:"true"`
}

// GitEnvironment prepares a clone for a command.
type GitEnvironment struct {
	Name string `koanf:"name" check:"name"`
	// SetupCommands are shell commands that run before that of a task, PreExecute is text in the same shell before it.
	SetupCommands []string `koanf:"setup_commands" check:"not empty"`
	PreExecute    string   `koanf:"pre_execute"`
}

// GitSecurity limits the repositories.
type GitSecurity struct {
	AllowedDomains  []string `koanf:"allowed_domains" check:"not empty" usage:"domains of repositories, or *.DOMAIN; empty: all"`
	AllowedRepos    []string `koanf:"allowed_repos" check:"not empty" usage:"repositories such as github.com/org/*; empty: all"`
	DisallowedRepos []string `koanf:"disallowed_repos" check:"not empty" usage:"repositories that are refused, with *"`
	Scan            GitScan  `koanf:"scan"`
}

// GitScan looks at a clone before it is used.
type GitScan struct {
	Enabled        bool   `koanf:"enabled" default:"false" usage:"scan clones"`
	Command        string `koanf:"command" usage:"shell command that scans {repo_path}, the folder with the files; findings end it with another exit code than 0"`
	FailOnFindings bool   `koanf:"fail_on_findings" default:"false" usage:"findings fail the task"`
}

// GitSync takes definitions from repositories.
type GitSync struct {
	Enabled      bool                `koanf:"enabled" default:"false" effect:"none" usage:"take definitions from repositories"`
	Repositories []GitSyncRepository `koanf:"repositories" effect:"none"`
	Webhook      GitSyncWebhook      `koanf:"webhook"`
}

// GitSyncRepository is a repository with definitions.
type GitSyncRepository struct {
	URL                 string             `koanf:"url" secret:"true"`
	Branch              string             `koanf:"branch"`
	Paths               []GitSyncPath      `koanf:"paths"`
	PollIntervalSeconds int                `koanf:"poll_interval_seconds" min:"0"`
	Credentials         GitSyncCredentials `koanf:"credentials"`
}

// GitSyncPath is a folder of a repository and where its files go.
type GitSyncPath struct {
	Source      string `koanf:"source" scalar:"true"`
	Destination string `koanf:"destination"`
}

// GitSyncCredentials open a repository.
type GitSyncCredentials struct {
	Username string `koanf:"username"`
	Password string `koanf:"password" secret:"true"`
}

// GitSyncWebhook is told of changes.
type GitSyncWebhook struct {
	Enabled  bool   `koanf:"enabled" default:"false" effect:"none" usage:"fetch when told of a change"`
	Endpoint string `koanf:"endpoint" default:"/api/git-sync/webhook" check:"path" effect:"none" usage:"path of the webhook"`
	Secret   string `koanf:"secret" secret:"true" effect:"none" usage:"secret of the webhook"`
}

// Security is who may do what.
type Security struct {
	Enabled               bool                `koanf:"enabled" default:"false" effect:"none" usage:"ask for a login"`
	CookieSecret          string              `koanf:"cookie_secret" secret:"true" effect:"none" usage:"secret that signs cookies, of 32 bytes at least"`
	SessionTimeoutMinutes int                 `koanf:"session_timeout_minutes" default:"120" min:"1" effect:"none" usage:"length of a session, in minutes"`
	SecureCookies         bool                `koanf:"secure_cookies" default:"false" effect:"none" usage:"send cookies over HTTPS alone"`
	SameSite              string              `koanf:"same_site" default:"lax" oneof:"lax,strict,none" effect:"none" usage:"SameSite of cookies"`
	PublicPaths           []string            `koanf:"public_paths" default:"/static/*,/login,/auth/*,/health" effect:"none" usage:"paths without login"`
	APIPaths              []string            `koanf:"api_paths" default:"/api/*" effect:"none" usage:"paths of the API"`
	OAuth                 OAuth               `koanf:"oauth"`
	BasicAuth             BasicAuth           `koanf:"basic_auth"`
	APIKeys               []APIKey            `koanf:"api_keys" effect:"none"`
	Roles                 []Role              `koanf:"roles" effect:"none"`
	UserRoles             map[string][]string `koanf:"user_roles" effect:"none"`
	AllowedIPs            []string            `koanf:"allowed_ips" check:"network" effect:"none" usage:"addresses or networks of clients; empty: all"`
	TaskExecution         TaskExecution       `koanf:"task_execution"`
	AuditLogging          AuditLogging        `koanf:"audit_logging"`
	SecretsBackend        string              `koanf:"secrets_backend" default:"env" oneof:"env,file,vault" effect:"none" usage:"where secrets of tasks come from"`
	Vault                 Vault               `koanf:"vault"`
}

// OAuth is a login elsewhere.
type OAuth struct {
	Provider       string   `koanf:"provider" effect:"none" usage:"google, github, azure, or the URL of an OpenID Connect issuer"`
	ClientID       string   `koanf:"client_id" effect:"none" usage:"client id"`
	ClientSecret   string   `koanf:"client_secret" secret:"true" effect:"none" usage:"client secret"`
	RedirectURL    string   `koanf:"redirect_url" check:"http url" effect:"none" usage:"URL that the provider sends back to"`
	AllowedDomains []string `koanf:"allowed_domains" effect:"none" usage:"domains of mail addresses; empty: all"`
	AllowedEmails  []string `koanf:"allowed_emails" effect:"none" usage:"mail addresses; empty: all"`
}

// BasicAuth is users with passwords.
type BasicAuth struct {
	Users []BasicUser `koanf:"users" effect:"none"`
}

// BasicUser is a user with the bcrypt hash of a password.
type BasicUser struct {
	Username     string `koanf:"username"`
	PasswordHash string `koanf:"password_hash" secret:"true"`
}

// APIKey opens the API.
type APIKey struct {
	Key   string   `koanf:"key" secret:"true"`
	Name  string   `koanf:"name"`
	Roles []string `koanf:"roles"`
}

// Role is a name for permissions: read, write, execute, admin.
type Role struct {
	Name        string   `koanf:"name"`
	Permissions []string `koanf:"permissions" oneof:"read,write,execute,admin"`
}

// TaskExecution limits what tasks may run.
type TaskExecution struct {
	AllowedCommands []string `koanf:"allowed_commands" effect:"none" usage:"commands that tasks may run; empty: all"`
	AllowedPatterns []string `koanf:"allowed_patterns" check:"pattern" effect:"none" usage:"regular expressions of such commands"`
}

// AuditLogging keeps who did what.
type AuditLogging struct {
	Enabled bool     `koanf:"enabled" default:"false" effect:"none" usage:"keep who did what"`
	Events  []string `koanf:"events" effect:"none" usage:"what is kept; empty: all"`
	LogFile string   `koanf:"log_file" effect:"none" usage:"file of the audit log"`
}

// Vault is HashiCorp Vault.
type Vault struct {
	URL   string `koanf:"url" check:"http url" effect:"none" usage:"URL of Vault"`
	Token string `koanf:"token" secret:"true" effect:"none" usage:"token for Vault"`
	Path  string `koanf:"path" effect:"none" usage:"path of the secrets"`
}
