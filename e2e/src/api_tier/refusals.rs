//! What is refused, and whether the refusal names the field: by the schema, by its rules in CEL, by the webhooks.

use serde_json::{Value, json};

use super::{
    Check, check,
    objects::{
        BOOTSTRAP_OLD, config, config_template, control_plane, control_plane_template, dcs_cluster, dcs_machine,
        dcs_machine_template, dcs_pool, object, old_control_plane, with,
    },
    server::{Server, accepted, refused},
};

/// What is wrong, an object that is, and what the refusal says.
type Wrong = (&'static str, Value, &'static [&'static str]);

pub fn checks<'a>(server: &'a Server<'a>) -> Vec<Check<'a>> {
    let by = |who: &'static str, cases: Vec<Wrong>| {
        cases.into_iter().map(move |(what, object, texts)| {
            check(format!("{who} refuses {what}"), async move { refused(server.create(&object).await, texts) })
        })
    };
    let updates = updates().into_iter().map(|(what, before, after, texts)| {
        check(format!("webhook refuses {what}"), async move {
            let before = accepted(server.create(&before).await)?;
            let after = with(after, "/metadata/resourceVersion", before["metadata"]["resourceVersion"].clone());
            refused(server.replace(&after).await, texts)
        })
    });
    by("schema", kubeadm_schema())
        .chain(by("schema", dcs_schema()))
        .chain(by("CEL", rules()))
        .chain(by("webhook", denials()))
        .chain(updates)
        .collect()
}

fn kubeadm_schema() -> Vec<Wrong> {
    let cluster = |field: &str, value: Value| config("wrong", json!({"clusterConfiguration": {field: value}}));
    let kcp = |pointer: &str, value: Value| with(control_plane("wrong"), pointer, value);
    vec![
        (
            "a file without a path",
            config("wrong", json!({"files": [{"content": "x"}]})),
            &["spec.files[0].path: Required"],
        ),
        ("an unknown format", config("wrong", json!({"format": "yaml"})), &["spec.format: Unsupported value"]),
        (
            "an empty structure",
            config("wrong", json!({"clusterConfiguration": {}})),
            &["spec.clusterConfiguration", "at least 1 properties"],
        ),
        (
            "an unknown key algorithm",
            cluster("encryptionAlgorithm", json!("RSA-1024")),
            &["spec.clusterConfiguration.encryptionAlgorithm"],
        ),
        (
            "certificates that live too long",
            cluster("certificateValidityPeriodDays", json!(2000)),
            &["spec.clusterConfiguration.certificateValidityPeriodDays"],
        ),
        (
            "external etcd without its files",
            cluster("etcd", json!({"external": {"endpoints": ["a"]}})),
            &["spec.clusterConfiguration.etcd.external.caFile: Required"],
        ),
        (
            "a discovery kubeconfig without a user",
            config(
                "wrong",
                json!({"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/a", "kubeConfig": {"cluster": {"server": "a"}}}}}}),
            ),
            &["spec.joinConfiguration.discovery.file.kubeConfig.user: Required"],
        ),
        (
            "a negative limit",
            config("wrong", json!({"initConfiguration": {"timeouts": {"discoverySeconds": -1}}})),
            &["spec.initConfiguration.timeouts.discoverySeconds"],
        ),
        (
            "too long a command",
            config("wrong", json!({"preKubeadmCommands": ["x".repeat(10_241)]})),
            &["spec.preKubeadmCommands[0]"],
        ),
        (
            "a template of nothing",
            config_template("wrong", json!({})),
            &["spec.template.spec", "at least 1 properties"],
        ),
        (
            "a v1beta1 partition without a layout",
            object(
                BOOTSTRAP_OLD,
                "KubeadmConfig",
                "wrong",
                json!({"diskSetup": {"partitions": [{"device": "/dev/b"}]}}),
            ),
            &["spec.diskSetup.partitions[0].layout: Required"],
        ),
        (
            "a control plane without machines",
            kcp("/spec/machineTemplate", Value::Null),
            &["spec.machineTemplate: Required"],
        ),
        ("a control plane without a version", kcp("/spec/version", Value::Null), &["spec.version: Required"]),
        (
            "a reference to a kind that cannot be",
            kcp("/spec/machineTemplate/spec/infrastructureRef/kind", json!("1st")),
            &["spec.machineTemplate.spec.infrastructureRef.kind"],
        ),
        (
            "a rollout too close to expiry",
            kcp("/spec/rollout", json!({"before": {"certificatesExpiryDays": 6}})),
            &["spec.rollout.before.certificatesExpiryDays"],
        ),
        (
            "another strategy",
            kcp("/spec/rollout", json!({"strategy": {"type": "Recreate"}})),
            &["spec.rollout.strategy.type: Unsupported value"],
        ),
        (
            "a taint of no effect",
            kcp("/spec/machineTemplate/spec/taints", json!([{"key": "a", "effect": "Never", "propagation": "Always"}])),
            &["spec.machineTemplate.spec.taints[0].effect: Unsupported value"],
        ),
        (
            "a gate of two polarities",
            kcp("/spec/machineTemplate/spec/readinessGates", json!([{"conditionType": "A", "polarity": "Both"}])),
            &["spec.machineTemplate.spec.readinessGates[0].polarity: Unsupported value"],
        ),
        (
            "a v1beta1 control plane without a reference",
            with(old_control_plane("wrong"), "/spec/machineTemplate/infrastructureRef", Value::Null),
            &["spec.machineTemplate.infrastructureRef: Required"],
        ),
    ]
}

fn dcs_schema() -> Vec<Wrong> {
    vec![
        (
            "a kind of load balancer that there is not",
            with(dcs_cluster("wrong"), "/spec/controlPlaneLoadBalancer/type", json!("nat")),
            &["spec.controlPlaneLoadBalancer.type: Unsupported value"],
        ),
        (
            "a port out of range",
            with(dcs_cluster("wrong"), "/spec/controlPlaneLoadBalancer/port", json!(70_000)),
            &["spec.controlPlaneLoadBalancer.port"],
        ),
        (
            "an interface that cannot be",
            with(dcs_cluster("wrong"), "/spec/controlPlaneLoadBalancer/interface", json!("eth 0")),
            &["spec.controlPlaneLoadBalancer.interface"],
        ),
        (
            "a machine without a template",
            with(dcs_machine("wrong"), "/spec/vmTemplateName", Value::Null),
            &["spec.vmTemplateName: Required"],
        ),
        (
            "a machine without a pool",
            with(dcs_machine("wrong"), "/spec/ipHostPoolRef", Value::Null),
            &["spec.ipHostPoolRef: Required"],
        ),
        (
            "a disk of a pool without a size",
            with(dcs_pool("wrong"), "/spec/pool/0/persistentDisk/0/quantityGB", json!(0)),
            &["spec.pool[0].persistentDisk[0].quantityGB"],
        ),
        (
            "a mount point that is no path",
            with(dcs_pool("wrong"), "/spec/pool/0/persistentDisk/0/path", json!("cpaas")),
            &["spec.pool[0].persistentDisk[0].path"],
        ),
    ]
}

fn rules() -> Vec<Wrong> {
    let args = json!([{"name": "v", "value": "1"}, {"name": "v", "value": "2"}]);
    let partition = |partition: Value| config("wrong", json!({"diskSetup": {"partitions": [partition]}}));
    vec![
        (
            "one flag twice",
            config("wrong", json!({"clusterConfiguration": {"scheduler": {"extraArgs": args}}})),
            &["spec.clusterConfiguration.scheduler.extraArgs", "extraArgs name must be unique"],
        ),
        (
            "one flag of the kubelet twice",
            config("wrong", json!({"joinConfiguration": {"nodeRegistration": {"kubeletExtraArgs": args}}})),
            &["spec.joinConfiguration.nodeRegistration.kubeletExtraArgs", "kubeletExtraArgs name must be unique"],
        ),
        (
            "a partition with two layouts",
            partition(json!({"device": "/dev/b", "layout": true, "diskLayout": [{"percentage": 50}]})),
            &["spec.diskSetup.partitions[0]", "exactly one"],
        ),
        (
            "a partition without a layout",
            partition(json!({"device": "/dev/b"})),
            &["spec.diskSetup.partitions[0]", "exactly one"],
        ),
        (
            "a partition of no type",
            partition(json!({"device": "/dev/b", "diskLayout": [{"percentage": 50, "partitionType": "BeOS"}]})),
            &["spec.diskSetup.partitions[0].diskLayout[0].partitionType", "must be one of"],
        ),
        (
            "a disk of a pool on two datastores",
            with(dcs_pool("wrong"), "/spec/pool/0/persistentDisk/0/datastoreClusterName", json!("c")),
            &["spec.pool[0].persistentDisk[0]", "exactly one of datastoreClusterName or datastoreName is required"],
        ),
    ]
}

fn denials() -> Vec<Wrong> {
    let twice = json!([{"path": "/a"}, {"path": "/a"}]);
    let kcp = |pointer: &str, value: Value| with(control_plane("wrong"), pointer, value);
    let entry = dcs_pool("")["spec"]["pool"][0].clone();
    vec![
        ("one file twice", config("wrong", json!({"files": twice})), &["spec.files[1].path"]),
        (
            "one file twice in a v1beta1 object",
            object(BOOTSTRAP_OLD, "KubeadmConfig", "wrong", json!({"files": twice})),
            &["spec.files[1].path"],
        ),
        (
            "one file twice in a template",
            config_template("wrong", json!({"files": twice})),
            &["spec.template.spec.files[1].path"],
        ),
        (
            "a label that no machine can have",
            with(
                config_template("wrong", json!({"verbosity": 1})),
                "/spec/template/metadata",
                json!({"labels": {"a": "b c"}}),
            ),
            &["spec.template.metadata.labels[a]"],
        ),
        (
            "commands that Ignition cannot run",
            config("wrong", json!({"format": "ignition", "bootCommands": ["x"]})),
            &["spec.bootCommands"],
        ),
        (
            "a malformed token",
            config("wrong", json!({"initConfiguration": {"bootstrapTokens": [{"token": "short"}]}})),
            &["spec.initConfiguration.bootstrapTokens[0].token"],
        ),
        (
            "two layouts in a v1beta1 partition",
            object(
                BOOTSTRAP_OLD,
                "KubeadmConfig",
                "wrong",
                json!({"diskSetup": {"partitions": [{"device": "/dev/b", "layout": true, "diskLayout": [{"percentage": 50}]}]}}),
            ),
            &["spec.diskSetup.partitions[0]"],
        ),
        (
            "a duration that is none in a v1beta1 object",
            with(old_control_plane("wrong"), "/spec/machineTemplate/nodeDrainTimeout", json!("1 minute")),
            &["spec.machineTemplate.nodeDrainTimeout", "1 minute"],
        ),
        ("an even number of control plane machines", kcp("/spec/replicas", json!(2)), &["spec.replicas"]),
        (
            "an even number in a v1beta1 object",
            with(old_control_plane("wrong"), "/spec/replicas", json!(4)),
            &["spec.replicas"],
        ),
        ("a version that is none", kcp("/spec/version", json!("v1.34")), &["spec.version"]),
        (
            "a surge in percent",
            kcp("/spec/rollout", json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%"}}})),
            &["spec.rollout.strategy.rollingUpdate.maxSurge"],
        ),
        (
            "names that are all the same",
            kcp("/spec/machineNaming", json!({"template": "cp"})),
            &["spec.machineNaming.template"],
        ),
        (
            "two limits for one health check",
            kcp(
                "/spec/kubeadmConfigSpec/initConfiguration",
                json!({"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}),
            ),
            &["spec.kubeadmConfigSpec.initConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds"],
        ),
        (
            "a surge of three in a template",
            control_plane_template(
                "wrong",
                json!({"rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3}}}}),
            ),
            &["spec.template.spec.rollout.strategy.rollingUpdate.maxSurge"],
        ),
        ("another network", with(dcs_cluster("wrong"), "/spec/networkType", json!("flannel")), &["spec.networkType"]),
        (
            "an endpoint that is not the load balancer",
            with(dcs_cluster("wrong"), "/spec/controlPlaneEndpoint/port", json!(7443)),
            &["spec.controlPlaneEndpoint"],
        ),
        (
            "two system disks",
            with(
                dcs_machine_template("wrong"),
                "/spec/template/spec/vmConfig/dcsMachineDiskSpec/1/systemVolume",
                json!(true),
            ),
            &["spec.template.spec.vmConfig.dcsMachineDiskSpec"],
        ),
        (
            "a template with the identity of a machine",
            with(dcs_machine_template("wrong"), "/spec/template/spec/providerID", json!("dcs://a")),
            &["spec.template.spec.providerID"],
        ),
        (
            "a machine without memory",
            with(dcs_machine("wrong"), "/spec/vmConfig/dcsMachineMemorySpec/quantity", json!(0)),
            &["spec.vmConfig.dcsMachineMemorySpec.quantity"],
        ),
        (
            "one address twice in a pool",
            with(dcs_pool("wrong"), "/spec/pool", json!([entry, entry])),
            &["spec.pool[1].ip"],
        ),
        (
            "a mask in dots",
            with(dcs_pool("wrong"), "/spec/pool/0/mask", json!("255.255.255.0")),
            &["spec.pool[0].mask"],
        ),
    ]
}

/// What is wrong, an object before and after, and what the refusal says.
type WrongUpdate = (&'static str, Value, Value, &'static [&'static str]);

fn updates() -> Vec<WrongUpdate> {
    fn change(
        what: &'static str,
        object: Value,
        pointer: &str,
        value: Value,
        texts: &'static [&'static str],
    ) -> WrongUpdate {
        (what, object.clone(), with(object, pointer, value), texts)
    }
    let naming = |template: &str| json!({"machineNaming": {"template": template}});
    vec![
        change(
            "another folder of certificates",
            control_plane("fixed-folder"),
            "/spec/kubeadmConfigSpec/clusterConfiguration/certificatesDir",
            json!("/other"),
            &["spec.kubeadmConfigSpec.clusterConfiguration.certificatesDir"],
        ),
        change(
            "an upgrade by two minor versions",
            control_plane("fixed-version"),
            "/spec/version",
            json!("v1.36.0"),
            &["spec.version"],
        ),
        change(
            "a change of a control plane template",
            control_plane_template("fixed-template", naming("a-{{ .random }}")),
            "/spec/template/spec",
            naming("b-{{ .random }}"),
            &["spec.template.spec.machineNaming.template"],
        ),
        change(
            "another image of a machine",
            dcs_machine("fixed-machine"),
            "/spec/vmTemplateName",
            json!("other"),
            &["spec.vmTemplateName"],
        ),
        change(
            "a disk taken from a pool",
            dcs_pool("fixed-pool"),
            "/spec/pool/0/persistentDisk",
            json!([]),
            &["spec.pool[0].persistentDisk"],
        ),
        change(
            "another file system on a disk of a pool",
            dcs_pool("fixed-disk"),
            "/spec/pool/0/persistentDisk/0/format",
            json!("ext4"),
            &["spec.pool[0].persistentDisk"],
        ),
    ]
}
