package postgres

import (
	"net"
	"time"

	"github.com/jackc/pgx/v5"
)

// Within this time a connection breaks whose other end is gone without a word: a cut cable, a host that lost its
// power, a firewall that forgot. The system's own times are minutes for data that nobody takes, and
// hours for a connection that is quiet.
const silenceLimit = 10 * time.Second

// dialer opens connections that notice when the other end is gone.
func dialer() *net.Dialer {
	return &net.Dialer{
		Timeout:         silenceLimit,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silenceLimit / 2, Interval: silenceLimit / 10, Count: 5},
		Control:         boundSilence,
	}
}

func setDialer(config *pgx.ConnConfig) { config.DialFunc = dialer().DialContext }

// keepAlive makes the server's end of a session notice within silenceLimit that this host is gone, and give its locks free. The
// server's own setting is mostly the system's: two hours. A pooler would refuse it as a parameter of the connection.
const keepAlive = `SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '1', false),
	set_config('tcp_keepalives_count', '5', false), set_config('tcp_user_timeout', '10s', false)`
