"""The style of the page of mosmon(1), --html: a light and a dark scheme, as the reader's browser prefers, and for paper."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#5b6b7d;--line:#e2e7ed;--track:#e9edf2;
--accent:#3157d5;
--q0:#dbe6f2;--q1:#a9c9e8;--q2:#4a8fcb;--q3:#2467ad;--q4:#d1571b;--on:#fff;--off:#16202c;--warn:#8a5a00;--warnbg:#fdf0d2;
--bad:#a1262b;--badbg:#fde4e4;
--c0:#2467ad;--c1:#d1571b;--c2:#2b8a5f;--c3:#8a4fb0;--c4:#b08400;--c5:#b03468}
@media (prefers-color-scheme:dark){:root{--page:#0e1319;--card:#171e27;--ink:#e8edf3;--soft:#93a3b5;--line:#27313d;
--track:#263040;--accent:#8ea9ff;
--q0:#27384b;--q1:#2f5a85;--q2:#3f86c6;--q3:#7fbcf2;--q4:#ff8a4c;--on:#0e1319;--off:#e8edf3;--warn:#f3c969;--warnbg:#3a2f14;
--bad:#ff9a9a;--badbg:#401c1f;
--c0:#7fbcf2;--c1:#ff8a4c;--c2:#5fcf9b;--c3:#c79bea;--c4:#e6c04a;--c5:#f082ac}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1240px;margin:0 auto;padding:36px 28px 64px}
h1{font-size:30px;line-height:1.15;letter-spacing:-.02em;margin:0}
h2{font-size:17px;letter-spacing:-.01em;margin:0 0 12px}
h2 span{color:var(--soft);font-weight:400;margin-left:4px}
h3{font-size:15px;margin:0}
header p,.note,small{color:var(--soft)}
header p{margin:6px 0 24px}
.note,small{font-size:13px;margin:0}
small{display:block;font-weight:400}
section{margin:0 0 28px}
.totals{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:1px;margin:0 0 28px;background:var(--line);
border:1px solid var(--line);border-radius:12px;overflow:hidden}
.totals div{background:var(--card);padding:14px 18px}
dt,dd{margin:0}
.totals dt{color:var(--soft);font-size:13px}
.totals dd:nth-child(2){font-size:27px;line-height:1.25;font-weight:600;letter-spacing:-.02em}
.totals dd:last-child{color:var(--soft);font-size:13px}
.pictures{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:20px;margin-bottom:28px}
.pictures section,.table,.log{background:var(--card);border:1px solid var(--line);border-radius:12px}
.pictures section{padding:20px 22px;margin:0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg{font-size:12px}
svg text{fill:var(--ink)}
.ring{max-width:540px;margin:0 auto}
.ring .in{text-anchor:middle;font-weight:600}
.ring .out,.mark{fill:var(--soft)}
.ring .here{fill:var(--accent);font-weight:700;font-size:14px}
.halo{fill:none;stroke:var(--accent);stroke-width:2}
.me{fill:var(--accent)}
.base{fill:none;stroke:var(--line)}
.now,.once{fill:none;stroke:var(--accent);stroke-linecap:round}
.now{opacity:.8}
.once{stroke:var(--soft);stroke-dasharray:3 4;opacity:.6}
circle.q0{fill:var(--q0)}circle.q1{fill:var(--q1)}circle.q2{fill:var(--q2)}circle.q3{fill:var(--q3)}circle.q4{fill:var(--q4)}
path.q0{stroke:var(--q0)}path.q1{stroke:var(--q1)}path.q2{stroke:var(--q2)}path.q3{stroke:var(--q3)}path.q4{stroke:var(--q4)}
i.q0{background:var(--q0)}i.q1{background:var(--q1)}i.q2{background:var(--q2)}i.q3{background:var(--q3)}i.q4{background:var(--q4)}
circle.down{fill:var(--card);stroke:var(--bad);stroke-dasharray:4 3}
path.down{stroke:var(--bad);opacity:.55}
i.down{border:1px dashed var(--bad)}
text.in.q0,text.in.q1,text.in.down{fill:var(--off)}
text.in.q2,text.in.q3,text.in.q4{fill:var(--on)}
.legend{display:flex;flex-wrap:wrap;gap:6px 16px;list-style:none;padding:0;margin:14px 0 0;color:var(--soft);font-size:13px;
justify-content:center}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.legend .way{height:0;border-top:3px solid var(--accent);border-radius:0;width:20px;vertical-align:4px}
.legend .old{border-top:1px dashed var(--soft)}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}
.all,.most{fill:var(--c0);opacity:.14}.most{opacity:.28}
.median{fill:none;stroke:var(--c0);stroke-width:2}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.end{font-weight:600}
path.c0,circle.c0{stroke:var(--c0)}path.c1,circle.c1{stroke:var(--c1)}path.c2,circle.c2{stroke:var(--c2)}
path.c3,circle.c3{stroke:var(--c3)}path.c4,circle.c4{stroke:var(--c4)}path.c5,circle.c5{stroke:var(--c5)}
text.c0{fill:var(--c0)}text.c1{fill:var(--c1)}text.c2{fill:var(--c2)}text.c3{fill:var(--c3)}text.c4{fill:var(--c4)}
text.c5{fill:var(--c5)}
.pictures .note{margin-top:14px}
.pictures h3{margin:20px 0 8px}
.busy{list-style:none;margin:0;padding:0}
.busy li{display:flex;align-items:center;gap:10px;font-size:13px;padding:2px 0}
.busy b{width:3em;text-align:right}
.busy i{height:12px;border-radius:3px;min-width:2px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(230px,1fr));gap:16px;margin-top:12px}
.cards article{max-width:560px;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px}
.cards h3{display:flex;align-items:baseline;gap:8px;font-size:19px}
.cards h3 small{flex:1}
.cards h3 .pill{font-weight:500}
.load{font-size:25px;font-weight:600;letter-spacing:-.02em;margin:8px 0 6px}
.load i{display:inline-block;width:12px;height:12px;border-radius:50%;margin-right:9px;vertical-align:2px}
.spark .fill{fill:var(--c0);opacity:.16}
.spark .line{stroke:var(--c0);stroke-width:1.5;vector-effect:non-scaling-stroke}
.spark .one{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3;opacity:.6;vector-effect:non-scaling-stroke}
.cards .spark{height:46px;border-bottom:1px solid var(--line);margin-bottom:12px}
.meter{background:var(--track);border-radius:4px;height:8px;overflow:hidden;margin-bottom:4px}
.meter i{display:block;height:100%;background:var(--q2)}
.cards dl{display:flex;gap:18px;margin:10px 0 0}
.cards dt{color:var(--soft);font-size:13px}
.off{opacity:.75}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(84px,1fr));gap:6px;margin-top:12px}
.tiles article{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--line);border-radius:6px;
padding:5px 8px 0;display:flex;
flex-wrap:wrap;justify-content:space-between;font-size:13px;overflow:hidden}
.tiles span{color:var(--soft)}
.tiles .spark{height:20px;flex:0 0 100%;margin-top:2px}
.tiles .q0{border-left-color:var(--q0)}.tiles .q1{border-left-color:var(--q1)}.tiles .q2{border-left-color:var(--q2)}
.tiles .q3{border-left-color:var(--q3)}.tiles .q4{border-left-color:var(--q4)}
.tiles .down{border-left-color:var(--bad);background:var(--badbg)}.tiles .down span{color:var(--bad)}
.tiles .blocked{background:var(--warnbg)}
.tiles .here{outline:2px solid var(--accent)}
em{font-style:normal}
.pill,.chip{display:inline-block;font-size:12px;line-height:1;padding:4px 8px;border-radius:99px;background:var(--track);
color:var(--soft);white-space:nowrap}
.chip{border-radius:6px;color:var(--ink);font-weight:600;min-width:26px;text-align:center}
.far{background:var(--accent);color:var(--on)}
.warn{background:var(--warnbg);color:var(--warn)}.bad{background:var(--badbg);color:var(--bad)}
.path{display:flex;flex-wrap:wrap;align-items:center;gap:4px 6px}
.path i{font-style:normal;color:var(--soft)}
section>.note{margin-bottom:10px}
.table{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:10px 16px;border-top:1px solid var(--line)}
th{color:var(--soft);font-size:13px;font-weight:500;border-top:0;white-space:nowrap}
td .pill{margin-left:6px;font-weight:500}
td:first-child{min-width:170px}
td:nth-child(2){white-space:nowrap}
td b{font-weight:600;overflow-wrap:anywhere}
.n{white-space:nowrap}
.why{color:var(--soft);max-width:340px;overflow-wrap:anywhere}
.log{list-style:none;margin:0;padding:12px 18px;font-size:13px}
.log li{padding:3px 0;overflow-wrap:anywhere}
@media (max-width:860px){main{padding:22px 14px}.pictures{grid-template-columns:minmax(0,1fr)}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
