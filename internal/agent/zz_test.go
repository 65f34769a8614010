package agent
import ("testing";"time";"sync";"sync/atomic";"github.com/cyclonetix/cyclonetix/internal/keeper";"io")
func BenchmarkKeeperOnly(b *testing.B){
 k,_:=keeper.Start(); defer k.Close()
 const round=1000
 var raw, ours time.Duration
 env:=[]string{"PATH=/usr/bin:/bin"}
 for range b.N {
  t:=time.Now(); execAll(b,16,round); raw+=time.Since(t)
  t=time.Now()
  var left atomic.Int64; left.Store(round)
  var all sync.WaitGroup
  for range 16 { all.Go(func(){ for left.Add(-1)>=0 { p,err:=k.Run(keeper.Command{Script:"true",Env:env}); if err!=nil{b.Error(err);return}; var r sync.WaitGroup; r.Go(func(){io.Copy(io.Discard,p.Stdout)}); r.Go(func(){io.Copy(io.Discard,p.Stderr)}); <-p.Exited(); r.Wait(); p.Close() } }) }
  all.Wait()
  ours+=time.Since(t)
 }
 b.ReportMetric(raw.Seconds()/ours.Seconds(),"ratio"); b.ReportMetric(float64(b.N*round)/ours.Seconds(),"tasks/s")
}
