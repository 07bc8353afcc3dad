//! Certificates of the management cluster: one CA for etcd, the API server, clients and webhooks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};

const LOCAL: &[&str] = &["localhost", "127.0.0.1"];
const API_SERVER: &[&str] =
    &["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1"];

/// Files under one folder.
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes all certificates and keys under `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("webhook"))?;
        let pki = Self { dir: dir.to_path_buf() };
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name = name(&[(DnType::CommonName, "basalt-management")]);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        fs::write(pki.ca(), ca.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(ca, key);
        pki.leaf(&issuer, "etcd", &[(DnType::CommonName, "etcd")], LOCAL)?;
        pki.leaf(&issuer, "etcd-client", &[(DnType::CommonName, "kube-apiserver-etcd-client")], &[])?;
        pki.leaf(&issuer, "apiserver", &[(DnType::CommonName, "kube-apiserver")], API_SERVER)?;
        let admin = [(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "admin")];
        pki.leaf(&issuer, "admin", &admin, &[])?;
        pki.leaf(&issuer, "controller-manager", &[(DnType::CommonName, "system:kube-controller-manager")], &[])?;
        pki.leaf(&issuer, "webhook", &[(DnType::CommonName, "webhook")], LOCAL)?;
        fs::copy(pki.certificate("webhook"), pki.webhook_dir().join("tls.crt"))?;
        fs::copy(pki.key("webhook"), pki.webhook_dir().join("tls.key"))?;
        let service_account = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        fs::write(pki.service_account_private(), service_account.serialize_pem())?;
        fs::write(pki.service_account_public(), service_account.public_key_pem())?;
        Ok(pki)
    }

    fn leaf(&self, issuer: &Issuer<'_, KeyPair>, file: &str, subject: &[(DnType, &str)], names: &[&str]) -> Result<()> {
        let mut leaf = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        leaf.distinguished_name = name(subject);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        fs::write(self.certificate(file), leaf.signed_by(&key, issuer)?.pem())?;
        fs::write(self.key(file), key.serialize_pem())?;
        Ok(())
    }

    /// The CA's certificate file.
    pub fn ca(&self) -> PathBuf {
        self.certificate("ca")
    }

    /// A certificate file.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    /// A key file.
    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Folder with `tls.crt` and `tls.key` for webhook servers.
    pub fn webhook_dir(&self) -> PathBuf {
        self.dir.join("webhook")
    }

    /// Key that signs service account tokens.
    pub fn service_account_private(&self) -> PathBuf {
        self.dir.join("sa.key")
    }

    /// Key that verifies service account tokens.
    pub fn service_account_public(&self) -> PathBuf {
        self.dir.join("sa.pub")
    }

    /// Kubeconfig that authenticates with a client certificate of this PKI.
    pub fn client_kubeconfig(&self, server: &str, user: &str) -> String {
        let credentials = format!(
            "{{client-certificate: {}, client-key: {}}}",
            self.certificate(user).display(),
            self.key(user).display()
        );
        self.kubeconfig(server, &credentials, "default")
    }

    /// Kubeconfig that authenticates with a bearer token.
    pub fn token_kubeconfig(&self, server: &str, token: &str, namespace: &str) -> String {
        self.kubeconfig(server, &format!("{{token: {token}}}"), namespace)
    }

    fn kubeconfig(&self, server: &str, credentials: &str, namespace: &str) -> String {
        let ca = self.ca();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: management\n\
             clusters: [{{name: management, cluster: {{server: \"{server}\", certificate-authority: {}}}}}]\n\
             users: [{{name: user, user: {credentials}}}]\n\
             contexts: [{{name: management, context: {{cluster: management, user: user, namespace: {namespace}}}}}]\n",
            ca.display()
        )
    }
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}
