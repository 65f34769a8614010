//go:build linux && !amd64 && !arm64

package keeper

func fastest(gaveWay bool) system { return portable{gaveWay: gaveWay} }
