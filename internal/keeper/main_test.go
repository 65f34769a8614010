package keeper

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	MaybeMain()
	os.Exit(m.Run())
}
