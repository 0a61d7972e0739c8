// grpc-js at writ's Workload API; see ../spiffe.py for what it prints.
'use strict';
const crypto = require('crypto');
const path = require('path');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const AUDIENCE = 'interop';
const proto = grpc.loadPackageDefinition(loader.loadSync(path.join(__dirname, 'workload.proto'), { keepCase: true }));
const client = new proto.SpiffeWorkloadAPI(process.argv[2], grpc.credentials.createInsecure());
const header = () => { const m = new grpc.Metadata(); m.set('workload.spiffe.io', 'true'); return m; };
const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');

// Certificates one behind the other; each says its own length.
function split(buffer) {
  const out = [];
  while (buffer.length) {
    const long = buffer[1] & 0x80 ? buffer[1] & 0x7f : 0;
    const n = 2 + long + (long ? buffer.readUIntBE(2, long) : buffer[1]);
    out.push(buffer.subarray(0, n));
    buffer = buffer.subarray(n);
  }
  return out;
}

function verify(svid) {
  const chain = split(svid.x509_svid), roots = split(svid.bundle);
  const leaf = new crypto.X509Certificate(chain[0]);
  const top = new crypto.X509Certificate(chain[chain.length - 1]);
  if (!roots.map((r) => new crypto.X509Certificate(r)).some((r) => top.checkIssued(r) && top.verify(r.publicKey))) {
    throw new Error('no root has signed it');
  }
  const key = crypto.createPrivateKey({ key: svid.x509_svid_key, format: 'der', type: 'pkcs8' });
  if (!leaf.checkPrivateKey(key)) throw new Error('another key');
  if (leaf.subjectAltName !== 'URI:' + svid.spiffe_id) throw new Error(leaf.subjectAltName);
  return { event: 'x509', id: svid.spiffe_id, chain: chain.map((c) => c.toString('hex')), roots: roots.map((c) => c.toString('hex')) };
}

function watch(pause) {
  const stream = client.FetchX509SVID({}, header());
  const again = () => setTimeout(() => watch(Math.min(2 * pause, 5000)), pause);
  stream.on('data', (m) => { pause = 100; say(verify(m.svids[0])); });
  stream.on('error', (e) => {
    process.stderr.write(e.message + '\n');
    if (e.code !== grpc.status.INVALID_ARGUMENT) again();
  });
}

function bundles() {
  return new Promise((resolve, reject) => {
    const stream = client.FetchJWTBundles({}, header());
    stream.on('data', (m) => { resolve(m.bundles); stream.cancel(); });
    stream.on('error', reject);
  });
}

async function jwt() {
  const answer = await new Promise((resolve, reject) => client.FetchJWTSVID({ audience: [AUDIENCE] }, header(),
    { deadline: Date.now() + 10000 }, (e, m) => (e ? reject(e) : resolve(m))));
  const { svid, spiffe_id: id } = answer.svids[0];
  const [head, body, signature] = svid.split('.');
  const read = (s) => JSON.parse(Buffer.from(s, 'base64url'));
  const kid = read(head).kid, claims = read(body);
  const own = JSON.parse((await bundles())['spiffe://' + id.split('/')[2]]);
  const key = crypto.createPublicKey({ key: own.keys.find((k) => k.kid === kid), format: 'jwk' });
  if (!crypto.verify('sha256', Buffer.from(head + '.' + body), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))) {
    throw new Error('the signature does not hold');
  }
  if (claims.sub !== id || !claims.aud.includes(AUDIENCE) || claims.exp * 1000 < Date.now()) throw new Error(JSON.stringify(claims));
  return { event: 'jwt', id, kid };
}

watch(100);
const input = readline.createInterface({ input: process.stdin });
input.on('line', () => jwt().then(say, (e) => say({ event: 'jwt', error: e.message })));
input.on('close', () => process.exit(0));
