package keeper
import ("testing";"os";"os/exec";"fmt";"syscall")
func comp(k int)[3]float64{
	var self, children syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children)
	f:=func(r syscall.Rusage)float64{return (float64(r.Utime.Sec+r.Stime.Sec)*1e6+float64(r.Utime.Usec+r.Stime.Usec))}
	o:=[3]float64{f(self),0,f(children)}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k)); err == nil {
		var comm, state string
		var f [50]float64
		args := []any{&f[0], &comm, &state}
		for i := range 14 { args = append(args, &f[i+1]) }
		fmt.Sscan(string(stat), args...)
		o[1]=(f[11]+f[12])*1e4; o[2]+=(f[13]+f[14])*1e4
	}
	return o
}
func TestOnly(t *testing.T){
 if os.Getenv("ONLY")=="" {t.Skip()}
 env:=os.Environ()
 k,_:=Start();defer k.Close()
 res:=map[string][][]float64{}
 for range 25 { for _,w:=range []int{4,16}{ for _,m:=range []string{"keeper","exec"}{
 f:=func()error{return capture(k,env)}
 if m=="exec"{f=func()error{_,e:=exec.Command("sh","-c","true").CombinedOutput();return e}}
 a:=comp(k.PID()); r,_:=spread(nil,k,w,400,f); b:=comp(k.PID())
 key:=fmt.Sprintf("%s/%d",m,w); v:=res[key]; if v==nil{v=make([][]float64,5)}
 v[0]=append(v[0],r); s:=0.0; for i:=range 3{v[i+1]=append(v[i+1],(b[i]-a[i])/400);s+=(b[i]-a[i])/400}; v[4]=append(v[4],s)
 res[key]=v
 }}}
 for _,k:=range []string{"keeper/4","exec/4","keeper/16","exec/16"}{v:=res[k];fmt.Printf("%-10s %6.0f/s agent %4.0f keeper %4.0f children %4.0f sum %4.0f  best rate",k,median(v[0]),median(v[1]),median(v[2]),median(v[3]),median(v[4]));fmt.Printf(" %.0f min sum %.0f\n",v[0][len(v[0])-1],v[4][0])}
}
