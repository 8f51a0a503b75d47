//! A server of bearer tokens, as Docker's registry wants them: signed with openssl.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use smidge_tests::InTime as _;
use tempfile::TempDir;

use crate::certificate::openssl;
use crate::context::have;
use crate::registry::{Kind, Registry, authorization};
use crate::wire::Message;

/// The server. Anybody gets a token that allows to pull; who logs in, one that allows what was asked.
pub(crate) struct Tokens {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    dir: TempDir,
    /// The certificate's bytes, as tokens carry them.
    certificate: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<Message>,
    /// Tokens to give out next that are no longer valid.
    expired: usize,
    public: bool,
    over: bool,
}

impl Tokens {
    /// A server; `None`, having said so, without openssl.
    pub(crate) fn start() -> Option<Self> {
        if !have("openssl") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey rsa:2048 -nodes -keyout token.key -out token.pem -days 30 \
             -subj /CN=tokens",
        );
        openssl(dir.path(), "x509 -in token.pem -outform DER -out token.der");
        let certificate = STANDARD.encode(std::fs::read(dir.path().join("token.der")).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            dir,
            certificate,
            state: Mutex::new(State {
                public: true,
                ..State::default()
            }),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in smidge_tests::incoming(&listener) {
                if serving.state.lock().unwrap().over {
                    return;
                }
                serving.serve(&stream);
            }
        });
        Some(Self { shared, address })
    }

    /// A registry that wants these tokens.
    pub(crate) fn registry(&self) -> Option<Registry> {
        Registry::start(&Kind {
            tokens: Some((format!("http://{}/token", self.address), self.certificate())),
            ..Kind::default()
        })
    }

    fn certificate(&self) -> PathBuf {
        self.shared.dir.path().join("token.pem")
    }

    /// Lets the next tokens be expired when they are given out.
    pub(crate) fn expire(&self, count: usize) {
        self.shared.state.lock().unwrap().expired = count;
    }

    /// Gives no token to whoever does not log in.
    pub(crate) fn close(&self) {
        self.shared.state.lock().unwrap().public = false;
    }

    /// What it was asked.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// What a registry answers to a token that has expired.
    pub(crate) fn challenge(&self, repository: &str) -> Message {
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"registry\",\
             scope=\"repository:{repository}:pull\",error=\"invalid_token\"",
            self.address
        );
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Message::answer(401, body).with("WWW-Authenticate", challenge)
    }

    /// A token that allows everything in a repository, for the test itself.
    pub(crate) fn token(&self, repository: &str) -> String {
        let scope = format!("repository:{repository}:pull,push,delete");
        self.shared.token(&[scope], true, 60)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().over = true;
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        // Whoever goes away in the middle does not want an answer.
        if let Ok(Some(mut request)) = Message::read_head(&mut reader)
            && request.read_body(&mut reader).is_ok()
        {
            let answer = self.answer(&request).with("Connection", "close");
            let _ = answer.send(&mut &*stream);
        }
    }

    fn answer(&self, request: &Message) -> Message {
        let known = match request.header("authorization") {
            None => false,
            Some(given) if given == authorization() => true,
            Some(_) => return Message::answer(401, r#"{"details":"incorrect"}"#),
        };
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.clone());
        if request.method() != "GET" {
            return Message::answer(404, "");
        }
        if !known && !state.public {
            return Message::answer(401, r#"{"details":"log in first"}"#);
        }
        let lifetime = match state.expired.checked_sub(1) {
            Some(left) => {
                state.expired = left;
                -3600
            }
            None => 3600,
        };
        drop(state);
        let query = request.target().split('?').nth(1).unwrap_or_default();
        let scopes: Vec<String> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .flat_map(|scopes| {
                decoded(scopes)
                    .split(' ')
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        let token = self.token(&scopes, known, lifetime);
        Message::answer(200, json!({"token": token, "expires_in": 3600}).to_string())
    }

    /// A token for scopes like `repository:NAME:pull,push`.
    fn token(&self, scopes: &[String], push: bool, lifetime: i64) -> String {
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let allowed = |action: &&str| push || *action == "pull";
                let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
                Some(json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap();
        let claims = json!({
            "iss": "issuer", "sub": "", "aud": "registry", "jti": "1", "access": access,
            "iat": now - 7200, "nbf": now - 7200, "exp": now + lifetime,
        });
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = sign(self.dir.path(), &signed);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn sign(dir: &Path, text: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", "token.key"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = openssl.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    openssl.output_in_time().unwrap().stdout
}

/// A query's value without its escapes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => {
                let hex = String::from_utf8_lossy(&[*high, *low]).into_owned();
                (u8::from_str_radix(&hex, 16).unwrap_or(b'?'), after)
            }
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
