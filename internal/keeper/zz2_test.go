package keeper
import ("testing";"os";"time";"io";"sync";"fmt";"sync/atomic")
func TestStall(t *testing.T){
 if os.Getenv("STALL")=="" {t.Skip()}
 k,_:=Start();defer k.Close()
 env:=os.Environ()
 var n atomic.Int64
 var wg sync.WaitGroup
 for range 4 { wg.Go(func(){ for n.Add(1)<20000 {
  t0:=time.Now(); p,err:=k.Run(Command{Script:"true",Env:env}); if err!=nil{t.Error(err);return}
  t1:=time.Now(); io.Copy(io.Discard,p.Stdout); io.Copy(io.Discard,p.Stderr); t2:=time.Now(); e:=<-p.Exited(); t3:=time.Now(); p.Close()
  if t3.Sub(t0)>100*time.Millisecond { fmt.Println(time.Now().Format("05.000"),"run",t1.Sub(t0),"read",t2.Sub(t1),"exit",t3.Sub(t2),"dur",e.Duration,p.PID()) }
 }})}
 wg.Wait()
}
