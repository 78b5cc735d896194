//! Kernel TLS, tried for correctness only: rustls shakes hands, the kernel seals and opens, splice(2) moves the data.
//!
//! The driver does not do this; ARCHITECTURE.md says why. What is shown here is that it could: the keys of a TLS 1.3
//! session are handed over (Documentation/networking/tls.rst), 8 MiB go both ways through stunnel unharmed without
//! passing through this process, and a kernel before 6.14 takes no second pair of keys.

#![expect(unsafe_code, reason = "setsockopt(2), recvmsg(2) and splice(2) as libc has them")]

use std::ffi::c_int;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use e2e::tls_lab::Lab;
use e2e::tls_lab::NAME;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::ConnectionTrafficSecrets;
use rustls::ExtractedSecrets;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::Digest;
use sha2::Sha256;

const SIZE: usize = 8 << 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// Of the TLS record layer.
const APPLICATION_DATA: u8 = 23;

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_carries_a_session_that_rustls_has_agreed_on() {
    let lab = Lab::new();
    let server =
        lab.server(&format!("{TLS_1_3}ciphersuites = TLS_AES_128_GCM_SHA256\n"), echo().await);
    let config = config(&lab);
    let port = server.port;
    tokio::task::spawn_blocking(move || carry(config, port)).await.unwrap();
}

fn carry(config: ClientConfig, port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let secrets = shake_hands(config, &mut stream);
    let ExtractedSecrets { tx, rx } = secrets;
    set(&stream, libc::SOL_TCP, libc::TCP_ULP, b"tls").expect("the kernel has the module tls");
    let (sending, receiving) = (crypto_info(&tx), crypto_info(&rx));
    set(&stream, libc::SOL_TLS, libc::TLS_TX, bytes_of(&sending)).unwrap();
    set(&stream, libc::SOL_TLS, libc::TLS_RX, bytes_of(&receiving)).unwrap();

    // The first byte by hand: stunnel's session tickets lie before it, and splice(2) fails on them.
    stream.write_all(b"!").unwrap();
    let tickets = first_byte(&stream);
    let mut sent = noise_file();
    let expected = hash(&mut sent);
    let mut received = tempfile::tempfile().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| splice_all(sent.as_raw_fd(), stream.as_raw_fd()));
        splice_all(stream.as_raw_fd(), received.as_raw_fd());
    });
    assert_eq!(hash(&mut received), expected, "8 MiB there and back");

    let again = set(&stream, libc::SOL_TLS, libc::TLS_RX, bytes_of(&receiving));
    let again = again.err().and_then(|error| error.raw_os_error());
    println!(
        "kernel TLS: {SIZE} bytes each way by splice, after {tickets} records that were no data; \
         a second TLS_RX: errno {again:?}"
    );
}

fn config(lab: &Lab) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&lab.ca_file).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

fn shake_hands(config: ClientConfig, stream: &mut TcpStream) -> ExtractedSecrets {
    let name = NAME.try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut records = Records { stream: stream.try_clone().unwrap(), left: 0 };
    while connection.is_handshaking() || connection.wants_write() {
        while connection.wants_write() {
            connection.write_tls(stream).unwrap();
        }
        if connection.is_handshaking() {
            connection.read_tls(&mut records).unwrap();
            connection.process_new_packets().unwrap();
        }
    }
    connection.dangerous_extract_secrets().unwrap()
}

/// Reads no further than to the end of a record: what lies behind it is for the kernel.
struct Records {
    stream: TcpStream,
    left: usize,
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let head = buffer.get_mut(..5).ok_or(io::ErrorKind::InvalidInput)?;
            self.stream.read_exact(head)?;
            self.left = usize::from(u16::from_be_bytes([head[3], head[4]]));
            return Ok(5);
        }
        let most = self.left.min(buffer.len());
        let read = self.stream.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

/// RFC 8446, section 5.3: the kernel puts the nonce together from salt and iv, and the record's number.
fn crypto_info(
    (sequence, secrets): &(u64, ConnectionTrafficSecrets),
) -> libc::tls12_crypto_info_aes_gcm_128 {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        panic!("the server was told to take AES-128-GCM")
    };
    let (salt, iv) = iv.as_ref().split_at(4);
    libc::tls12_crypto_info_aes_gcm_128 {
        info: libc::tls_crypto_info {
            version: libc::TLS_1_3_VERSION,
            cipher_type: libc::TLS_CIPHER_AES_GCM_128,
        },
        iv: iv.try_into().unwrap(),
        key: key.as_ref().try_into().unwrap(),
        salt: salt.try_into().unwrap(),
        rec_seq: sequence.to_be_bytes(),
    }
}

fn bytes_of(info: &libc::tls12_crypto_info_aes_gcm_128) -> &[u8] {
    // SAFETY: a struct of integers and arrays of bytes without padding, read for as long as it is borrowed.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(info).cast(), size_of_val(info)) }
}

fn set(stream: &TcpStream, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap();
    // SAFETY: the kernel reads `length` bytes of `value`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), level, name, value.as_ptr().cast::<c_void>(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads up to and with the first byte of data, and says how many other records lay before it.
fn first_byte(stream: &TcpStream) -> usize {
    for others in 0..10 {
        let (kind, bytes) = record(stream);
        if kind == APPLICATION_DATA {
            assert_eq!(bytes, b"!");
            return others;
        }
    }
    panic!("no data after 10 records");
}

/// One record with its type, which comes beside the data.
fn record(stream: &TcpStream) -> (u8, Vec<u8>) {
    let mut data = vec![0_u8; 16 * 1024];
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all zeroes is a message without name, data or control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: `message` points at buffers of the stated lengths that live until the call returns.
    let read = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error()).unwrap();
    data.truncate(read);
    // SAFETY: the kernel has filled in `message`; the first control message, if there is one, lies in `control`.
    let kind = unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!head.is_null() && (*head).cmsg_level == libc::SOL_TLS);
        assert_eq!((*head).cmsg_type, libc::TLS_GET_RECORD_TYPE);
        *libc::CMSG_DATA(head)
    };
    (kind, data)
}

fn splice_all(from: RawFd, to: RawFd) {
    let mut ends = [0; 2];
    // SAFETY: room for the two descriptors that pipe(2) writes.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let [reads, writes] = ends;
    let mut moved = 0;
    while moved < SIZE {
        let came = splice(from, writes, SIZE - moved);
        assert!(came > 0, "it ended after {moved} bytes");
        let mut left = came;
        while left > 0 {
            left -= splice(reads, to, left);
        }
        moved += came;
    }
    for end in ends {
        // SAFETY: ours, and closed once.
        unsafe { libc::close(end) };
    }
}

fn splice(from: RawFd, to: RawFd, most: usize) -> usize {
    let null = std::ptr::null_mut;
    // SAFETY: no offsets are handed in, so the kernel touches no memory of ours.
    let moved = unsafe { libc::splice(from, null(), to, null(), most.min(1 << 16), 0) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error()).unwrap()
}

fn noise_file() -> File {
    let mut file = tempfile::tempfile().unwrap();
    let noise = e2e::tls_lab::noise();
    for number in 0..SIZE / noise.len() {
        let turned: Vec<u8> = noise.iter().map(|byte| byte.wrapping_add(number as u8)).collect();
        file.write_all(&turned).unwrap();
    }
    file
}

/// Of the whole file, whose position is at its start afterwards.
fn hash(file: &mut File) -> Vec<u8> {
    file.rewind().unwrap();
    let mut digest = Sha256::new();
    let length = io::copy(file, &mut digest).unwrap();
    assert_eq!(usize::try_from(length).unwrap(), SIZE);
    file.rewind().unwrap();
    digest.finalize().to_vec()
}
