use super::super::boot_testing::{Vm, bash};

/// What a script of bash prints, and its status.
async fn said(script: &str) -> (u8, String) {
    let vm = Vm::new().with_disk(10).with_disk(20);
    let mut machine = vm.machine();
    let (ended, text) = bash(&mut machine, &vm.recorder, script).await;
    assert_eq!(ended.stopped, None, "{script}: {text}");
    (ended.code, text)
}

#[tokio::test]
async fn scripts_do_what_bash_does() {
    for (script, expected) in [
        // Words, quotes, splitting.
        (r#"a="x  y"; echo $a "$a" '$a' \$a"#, "x y x  y $a $a"),
        (
            r#"set -- one "two three"; for w in "$@"; do echo "<$w>"; done; echo "$#:$*""#,
            "<one>\n<two three>\n2:one two three",
        ),
        (r#"set --; for w in "$@"; do echo never; done; echo "x$@y""#, "xy"),
        (r"echo a{b,c}d {1..3} x{,y} {a,b}{1,2}", "abd acd 1 2 3 x xy a1 a2 b1 b2"),
        (r#"IFS=:; x=a:b::c; for w in $x; do printf '<%s>' "$w"; done"#, "<a><b><><c>"),
        (
            r"echo $'a\tb' \
c",
            "a\tb c",
        ),
        // Parameters.
        (
            r"x=abc.tar.gz; echo ${x%.*} ${x%%.*} ${x#*.} ${x##*.} ${#x} ${x/a/A} ${x//a/A} ${x:1:2} ${x: -2}",
            "abc.tar abc tar.gz gz 10 Abc.tar.gz Abc.tAr.gz bc gz",
        ),
        (r"echo ${u-d} ${u:-d} ${u:+n}. ${v:=w} $v; x=; echo ${x-d}.${x:-d}", "d d . w w\n.d"),
        (r"x=Ab; echo ${x^^} ${x,,} ${x^} ${x,}; y=x; echo ${!y}", "AB ab Ab ab\nAb"),
        (
            r#"a=(1 "2 3" 4); a+=(5); echo ${#a[@]} "${a[1]}" ${a[-1]} "${a[@]:1:2}"; for i in "${!a[@]}"; do printf "$i "; done"#,
            "4 2 3 5 2 3 4\n0 1 2 3",
        ),
        (r"declare -A m=([k]=v [l]=w); m[n]=x; echo ${m[k]} ${m[n]} ${#m[@]}", "v x 3"),
        // Arithmetic.
        (
            r"i=5; echo $((i * 2 + 1)) $(( (1 + 2) * 3 )) $((0x10)) $((010)) $((i++)) $i $((i > 3 && i < 9)) $((7 / 2)) $((-7 % 3)) $((2 ** 10))",
            "11 9 16 8 5 6 1 3 -1 1024",
        ),
        (r"for ((i = 0; i < 3; i++)); do printf $i; done; ((i == 3)) && echo ' yes'", "012 yes"),
        // Lists and compound commands.
        (r"false || echo a; true && echo b; ! false && echo c", "a\nb\nc"),
        (r"if [ 1 -gt 2 ]; then echo a; elif [[ abc == a* ]]; then echo b; else echo c; fi", "b"),
        (r"case x.y in a|x) echo 1;; x.*) echo 2;& z) echo 3;; *) echo 4; esac", "2\n3"),
        (r"n=0; while true; do n=$((n+1)); [ $n -eq 2 ] && continue; [ $n -ge 4 ] && break; echo $n; done", "1\n3"),
        (r"for i in 1 2; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done", "1a\n2a"),
        (r"until [ -e /tmp/x ]; do touch /tmp/x; done; echo done", "done"),
        (r#"f() { local x=in; echo "$x $1 $#"; return 3; }; x=out; f a b; echo "$? $x""#, "in a 2\n3 out"),
        (r"function g { echo g; }; g; (x=1; exit 4); echo $? ${x-unset}; { echo group; }", "g\n4 unset\ngroup"),
        // Pipes and redirections.
        (r"printf 'b\na\nb\n' | sort | uniq -c | tr -s ' '", " 1 a\n 2 b"),
        (r#"echo one > /tmp/f; echo two >> /tmp/f; while read -r l; do echo "<$l>"; done < /tmp/f"#, "<one>\n<two>"),
        (
            "cat <<EOF\nx=$((1+1)) `echo b` \\$y \"q\"\nEOF\ncat <<'EOF'\n$x\nEOF\ncat <<-E\n\tz\n\tE\n",
            "x=2 b $y \"q\"\n$x\nz",
        ),
        (r"cat <<< here; ls /none 2>/dev/null; echo $?; (echo out; echo err >&2) 2>&1 | cat", "here\n2\nout\nerr"),
        (r"echo a > /tmp/r; x=$(</tmp/r); echo $x; exec 3>/tmp/three; echo q >&3; cat /tmp/three", "a\nq"),
        (r"set -o pipefail; false | true; echo $?; true | false | true; echo $? ${PIPESTATUS[@]}", "1\n1 0 1 0"),
        // Tests.
        (
            r#"[ -d /etc ] && [ -f /etc/hosts ] && [ ! -e /none ] && [ -b /dev/vdb ] && [ -n x ] && [ -z "" ] && echo ok"#,
            "ok",
        ),
        (
            r#"[[ "a b" =~ ^a\ (.)$ ]] && echo ${BASH_REMATCH[1]}; [[ -n $u && x ]] || echo no; [[ 10 -gt 9 ]] && echo gt"#,
            "b\nno\ngt",
        ),
        // Programs.
        (r"printf '%s-%03d-%x\n' a 7 255; printf '%s\n' 1 2; printf -v v '%5s|' x; echo $v", "a-007-ff\n1\n2\nx|"),
        (
            r"mkdir -p /tmp/d/{a,b}; touch /tmp/d/a/1 /tmp/d/.h; ls /tmp/d; echo /tmp/d/*/?; cp -a /tmp/d /tmp/e; rm -rf /tmp/d; find /tmp/e -type f",
            "a\nb\n/tmp/d/a/1\n/tmp/e/.h\n/tmp/e/a/1",
        ),
        (
            r"umask; echo x > /tmp/m; chmod u=rw,go= /tmp/m; stat -c '%a %U %s' /tmp/m; chmod 4755 /tmp/m; stat -c %a /tmp/m; chown nobody:adm /tmp/m; stat -c %U:%G /tmp/m",
            "0022\n600 root 2\n4755\nnobody:adm",
        ),
        (
            r"printf 'server: a\nport: 1\n' | sed -n 's/^server: *//p'; echo aXbX | sed 's/X/[&]/2;s/a/\n/'; echo 'k=v' | sed -E 's/(k)=(.*)/\2=\1/'; printf '1\n2\n3\n' | sed '2d;$s/3/z/'",
            "a\n\nXb[X]\nv=k\n1\nz",
        ),
        (
            r"printf 'x y\nz\n' > /tmp/g; grep -q '^x' /tmp/g && grep -c . /tmp/g; grep -o '[yz]' /tmp/g; grep -E 'a|z$' /tmp/g; grep -v z /tmp/g; grep nope /tmp/g || echo $?",
            "2\ny\nz\nz\nx y\n1",
        ),
        (
            r"echo a:b:c | cut -d: -f2-; echo abc | tr a-c A-C; echo abc | tr -d b; seq 5 | head -n 2; seq 5 | tail -n 1; printf 'a b\n' | wc -w",
            "b:c\nABC\nac\n1\n2\n5\n2",
        ),
        (r"echo hi | base64; echo aGk= | base64 -d; echo; echo -n x | sha256sum | cut -c 1-8", "aGkK\nhi\n2d711642"),
        (
            r"basename /a/b.sh .sh; dirname /a/b; ln -s /etc/hosts /tmp/l; readlink /tmp/l; realpath /tmp/l; [ -L /tmp/l ] && echo link",
            "b\n/a\n/etc/hosts\n/etc/hosts\nlink",
        ),
        (
            r"command -v kubeadm; command -v nothere || echo none; type -t x >/dev/null 2>&1 || echo untyped",
            "/usr/bin/kubeadm\nnone\nuntyped",
        ),
        (
            r"echo 'echo from file $1' > /tmp/s.sh; bash /tmp/s.sh 1; chmod +x /tmp/s.sh; /tmp/s.sh 2; sh -c 'echo $0 $1' n a",
            "from file 1\nfrom file 2\nn a",
        ),
        (
            r"X=1 env | grep ^X; export Y=2; sh -c 'echo $Y'; echo a b | xargs -n 1 echo -; timeout 5 sleep 1 && echo slept; timeout 1 sleep 9; echo $?",
            "X=1\n2\n- a\n- b\nslept\n124",
        ),
        (r"trap 'echo bye $?' EXIT; (trap 'echo sub' EXIT); exit 3", "sub\nbye 3"),
        (r#"t() { while getopts ab:c o; do printf "$o$OPTARG "; done; }; t -a -b x -c"#, "a bx c"),
        (
            r"systemctl is-active containerd || systemctl start containerd; systemctl is-active containerd; systemctl enable none.service || echo $?",
            "inactive\nactive\nFailed to enable unit: Unit file none.service does not exist.\n1",
        ),
        (
            r"hostnamectl set-hostname n1; hostname; cat /etc/hostname; sysctl -w net.ipv4.ip_forward=1; sysctl -n net.ipv4.ip_forward; modprobe br_netfilter && lsmod | grep -c br_netfilter",
            "n1\nn1\nnet.ipv4.ip_forward = 1\n1\n1",
        ),
    ] {
        assert_eq!(said(script).await.1.trim_end(), expected, "{script}");
    }
}

#[tokio::test]
async fn failures_end_a_script_as_in_bash() {
    for (script, code, expected) in [
        ("set -e; false; echo never", 1, ""),
        ("set -e; false || true; if false; then :; fi; ! true; false && true; echo on", 0, "on"),
        ("set -e; f() { false; echo never; }; f", 1, ""),
        ("set -e; f() { false; echo asked; }; f || true", 0, "asked"),
        ("set -e; x=$(false); echo never", 1, ""),
        ("set -e; local_() { local x=$(false); echo hidden; }; local_", 0, "hidden"),
        ("set -e; (false); echo never", 1, ""),
        ("set -eo pipefail; false | true; echo never", 1, ""),
        ("set -u; echo $none; echo never", 1, "bash: line 1: none: unbound variable"),
        ("set -u; a=(); echo ${#a[@]} \"${a[@]}\" ${none:-d}", 0, "0 d"),
        ("nonsense --now; echo $?", 0, "bash: line 1: nonsense: command not found\n127"),
        (
            "/none/x; echo $?; touch /tmp/n; /tmp/n; echo $?",
            0,
            "bash: line 1: /none/x: No such file or directory\n127\nbash: line 1: /tmp/n: Permission denied\n126",
        ),
        ("cat < /none; echo $?", 0, "bash: line 1: /none: No such file or directory\n1"),
        (": ${x:?is needed}; echo never", 1, "bash: line 1: x: is needed"),
        ("echo $((1/0)); echo never", 1, "bash: line 1: division by 0"),
        ("echo a\nif true; then", 2, "bash: line 2: syntax error: unexpected end of file"),
        ("echo a; done", 2, "bash: line 1: syntax error near unexpected token `done'"),
        ("echo 'open", 2, "bash: line 1: unexpected EOF while looking for matching `''"),
        ("readonly r=1; r=2; echo never", 1, "bash: line 1: r: readonly variable"),
        (
            "mkdir /none/x; rm /none; chmod 9z /etc/hosts",
            1,
            "mkdir: cannot create directory '/none/x': No such file or directory\nrm: cannot remove '/none': No such file or directory\nchmod: invalid mode: '9z'",
        ),
        ("mkdir --wrong x", 1, "mkdir: unrecognized option '--wrong'"),
        ("mount /dev/vdz /mnt", 32, "mount: /mnt: special device /dev/vdz does not exist."),
        ("exit 300", 44, ""),
    ] {
        assert_eq!(said(script).await, (code, expected.to_owned()), "{script}");
    }
}

#[tokio::test]
async fn what_does_not_end_is_ended() {
    for (script, expected) in [
        ("while true; do :; done", "a loop that does not end"),
        ("while ! ip route | grep -q default; do sleep 1; done", "stopped after 1800 s"),
        ("f() { f; }; f", "a recursion without end"),
        ("x=x; while true; do x=$x$x; done", "bash"),
        ("sleep infinity", "stopped after 1800 s"),
        ("echo 'bash /tmp/me' > /tmp/me; bash /tmp/me", "a recursion without end"),
        ("while true; do echo more >> /tmp/grow; done", "stopped after"),
        ("eval 'x() { eval x; }'; x", "a recursion without end"),
    ] {
        let vm = Vm::new();
        let mut machine = vm.machine();
        let (ended, text) = bash(&mut machine, &vm.recorder, script).await;
        let reason = ended.stopped.clone().unwrap_or(text);
        assert!(!ended.is_success() && reason.contains(expected), "{script}: {reason}");
    }
    // Nesting is refused before anything runs.
    for (open, close) in
        [("(", ")"), ("$(", ")"), ("{ ", "; }"), ("if ", ""), ("${x:-", "}"), ("$((", "))"), ("\"$(", ")\"")]
    {
        let script = format!("echo {}{}", open.repeat(20_000), close.repeat(20_000));
        let script = if open.starts_with(['(', '{', 'i']) { script.replacen("echo ", "", 1) } else { script };
        let vm = Vm::new();
        let mut machine = vm.machine();
        let (ended, _) = bash(&mut machine, &vm.recorder, &script).await;
        assert!(!ended.is_success(), "{open}");
    }
    let long = format!("{} true", "sudo env nice ".repeat(2_000));
    let vm = Vm::new();
    let (ended, _) = bash(&mut vm.machine(), &vm.recorder, &long).await;
    assert!(ended.stopped.is_some());
}

#[tokio::test]
async fn the_deepest_allowed_nesting_fits_the_stack_of_a_worker() {
    let nested = format!("{}echo deep{}", "{ (if true; then ".repeat(6), "; fi) }".repeat(6));
    // A worker's stack has 2 MiB.
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let vm = Vm::new();
            let (ended, text) = bash(&mut vm.machine(), &vm.recorder, &nested).await;
            assert_eq!((ended.code, text.as_str()), (0, "deep"), "{ended:?}");
            let (ended, _) = bash(&mut vm.machine(), &vm.recorder, "f() { if true; then f; fi; }; f").await;
            assert!(ended.stopped.is_some());
        });
    });
    worker.unwrap().join().unwrap();
}

#[tokio::test]
async fn disks_are_found_formatted_and_mounted() {
    let vm = Vm::new().with_disk(10).with_disk(20);
    let mut machine = vm.machine();
    let script = r#"
        blkid -p -o value -s TYPE /dev/vda; echo blank $?
        blockdev --getsize64 /dev/vdb
        mkfs.xfs -L data /dev/vda && blkid -p -o value -s TYPE /dev/vda
        mkfs.xfs /dev/vda || echo kept
        mkdir -p /mnt/d; mount -t xfs -o noatime LABEL=data /mnt/d
        findmnt -n -o MAJ:MIN,FSTYPE --mountpoint /mnt/d
        mountpoint -q /mnt/d && echo one
        printf '%d:%d\n' "0x$(stat -c %t /dev/vda)" "0x$(stat -c %T /dev/vda)"
        wipefs -a /dev/vda || echo busy
        umount /mnt/d; wipefs -a -q /dev/vda; blkid /dev/vda || echo gone
    "#;
    // This machine was not booted: its first disk is a data disk, but for the name.
    let script = script.replace("vda", "vdc");
    let (ended, text) = bash(&mut machine, &vm.recorder, &script).await;
    assert_eq!(ended.stopped, None);
    let expected = "blank 2\n10737418240\nxfs\nmkfs.xfs: /dev/vdc appears to contain an existing filesystem (xfs). Use the -f option to force overwrite.\nkept\n252:16 xfs\none\n252:16\nwipefs: error: /dev/vdc: probing initialization failed: Device or resource busy\nbusy\ngone";
    assert_eq!(text, expected);
}
