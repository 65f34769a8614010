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
