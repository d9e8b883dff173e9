"""The tables behind the embedded questions, written for this project. A test holds that no answer is ambiguous."""

from __future__ import annotations


def _pairs(table: str) -> dict[str, str]:
    """`key: value` entries, separated by semicolons."""
    entries = (entry.partition(":") for entry in table.split(";"))
    return {" ".join(key.split()): " ".join(value.split()) for key, _, value in entries}


def _rows(table: str) -> list[list[str]]:
    """One row a line, cells separated by bars."""
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


OPPOSITES = _pairs("""
    hot: cold; big: small; fast: slow; up: down; early: late; open: closed; full: empty; wet: dry; old: young;
    hard: soft; strong: weak; rich: poor; light: dark; loud: quiet; happy: sad; high: low; thick: thin;
    wide: narrow; near: far; first: last; inside: outside; win: lose; buy: sell; push: pull; begin: finish;
    remember: forget; arrive: depart; ask: answer; give: take; love: hate; asleep: awake; sharp: blunt;
    smooth: rough; clean: dirty; safe: dangerous; brave: cowardly; cheap: expensive; deep: shallow;
    sweet: bitter; tight: loose; whole: broken; polite: rude; success: failure; friend: enemy; freeze: melt;
    allow: forbid; guilty: innocent; lead: follow; floor: ceiling; north: south
""")
"""A word: its opposite."""

KINDS_OF_THINGS = {
    kind: things.split()
    for kind, things in _pairs("""
        birds: robin owl eagle penguin sparrow; fish: salmon trout herring tuna cod;
        insects: beetle ant wasp moth grasshopper; trees: oak pine birch willow maple;
        flowers: rose tulip daisy violet lily; metals: copper zinc silver nickel tin;
        instruments: violin flute trumpet cello harp; vehicles: lorry tram bicycle taxi motorbike;
        furniture: sofa wardrobe stool desk armchair; clothes: shirt scarf skirt coat sock
    """).items()
}
"""A kind: things that are of this kind and of no other."""

USES = _pairs("""
    a broom: sweeping the floor; an umbrella: keeping off the rain; a kettle: boiling water; a key: opening a lock;
    a thermometer: measuring temperature; a compass: finding north; a telescope: looking at stars;
    a needle: sewing cloth; a ladder: climbing up high; a pillow: resting your head; a towel: drying yourself;
    a razor: shaving hair; an anchor: holding a ship in place; a calendar: keeping track of dates;
    a fridge: keeping food cold; an oven: baking bread; a toothbrush: cleaning teeth; a lamp: lighting a room;
    a saw: cutting wood; a scale: measuring weight; a shovel: digging holes; a stamp: posting a letter;
    a lawnmower: cutting grass; a parachute: falling slowly; a microscope: seeing tiny things;
    a bandage: covering a wound; a hammer: hitting nails; a camera: taking pictures; a fan: moving air;
    a whistle: making a loud sound; a rake: gathering leaves; a comb: tidying hair; a mop: washing the floor;
    a net: catching fish; a corkscrew: opening bottles; an eraser: removing pencil marks; a wallet: carrying money;
    a helmet: protecting the head; a lighthouse: warning ships; a stapler: holding papers together
""")
"""A thing: what it is used for."""

JOBS = _pairs("""
    bakes bread: a baker; repairs pipes: a plumber; flies planes: a pilot; treats teeth: a dentist;
    grows crops: a farmer; puts out fires: a firefighter; designs buildings: an architect; cuts hair: a barber;
    teaches children: a teacher; writes novels: an author; catches thieves: a police officer;
    treats sick animals: a vet; works in a coal pit: a miner; sews suits: a tailor; sells meat: a butcher;
    lays bricks: a bricklayer; studies the stars: an astronomer; digs up ancient ruins: an archaeologist;
    makes tables from wood: a carpenter; sells flowers: a florist; paints portraits: an artist;
    lends out books: a librarian; serves meals at tables: a waiter; operates on patients: a surgeon;
    travels into space: an astronaut; mends shoes: a cobbler; leads an orchestra: a conductor;
    sells medicines: a pharmacist; drives a train: a train driver; decides cases in court: a judge;
    delivers letters: a postman; fits electric wires: an electrician; rides horses in races: a jockey;
    repairs car engines: a mechanic; studies rocks: a geologist; keeps bees: a beekeeper
""")
"""What somebody does for a living: who that is."""

MATERIALS = _pairs("""
    a window pane: glass; a knitted scarf: wool; a car tyre: rubber; a newspaper: paper; a candle: wax;
    a coin: metal; a brick: clay; a horse saddle: leather; a dining table: wood; an igloo: snow;
    a cricket bat: wood; a party balloon: rubber; a wine bottle: glass;
    a frying pan: metal; a boxing glove: leather; a flower pot: clay; a garden fence: wood;
    a light bulb: glass; a church bell: metal; a notebook: paper; a honeycomb: wax; a snowman: snow;
    a holster: leather; a pencil eraser: rubber; a winter sweater: wool; a key: metal; a magazine: paper
""")
"""A thing: what it is usually made of."""

COLOURS = _pairs("""
    a ripe banana: yellow; fresh snow: white; grass in spring: green; a clear sky at noon: blue; coal: black;
    a ripe tomato: red; a carrot: orange; chocolate: brown; a flamingo: pink; an elephant: grey; milk: white;
    blood: red; a lemon: yellow; a pumpkin: orange; a raven: black; a cucumber: green; a polar bear: white;
    an egg yolk: yellow; a ripe strawberry: red; cocoa powder: brown; a leaf of spinach: green; a swan: white;
    a lump of tar: black; a sunflower: yellow; a sapphire: blue; a roasted chestnut: brown; a fire engine: red;
    a pea: green; a rhinoceros: grey; lavender: purple
""")
"""A thing: its usual colour."""

STATES = _pairs("""
    iron: solid; milk: liquid; oxygen: gas; wood: solid; petrol: liquid; helium: gas; granite: solid;
    vinegar: liquid; nitrogen: gas; marble: solid; olive oil: liquid; carbon dioxide: gas; copper: solid;
    orange juice: liquid; hydrogen: gas; salt: solid; sea water: liquid; air: gas; gold: solid; ink: liquid
""")
"""A substance: its state at room temperature."""

CAPITALS = _pairs("""
    France: Paris; Japan: Tokyo; Egypt: Cairo; Italy: Rome; Spain: Madrid; Russia: Moscow; China: Beijing;
    Canada: Ottawa; Greece: Athens; Norway: Oslo; Sweden: Stockholm; Poland: Warsaw; Austria: Vienna;
    Portugal: Lisbon; Ireland: Dublin; Kenya: Nairobi; Peru: Lima; Cuba: Havana; Thailand: Bangkok;
    Finland: Helsinki; Hungary: Budapest; Denmark: Copenhagen; Turkey: Ankara; Australia: Canberra;
    Chile: Santiago; Argentina: Buenos Aires; Iran: Tehran; Iraq: Baghdad; Vietnam: Hanoi; Nepal: Kathmandu
""")
"""A country: its capital."""

CONTINENTS = _pairs("""
    Germany: Europe; Brazil: South America; India: Asia; Nigeria: Africa; Mexico: North America;
    Belgium: Europe; Colombia: South America; Mongolia: Asia; Ghana: Africa; Guatemala: North America;
    Romania: Europe; Bolivia: South America; Pakistan: Asia; Ethiopia: Africa; Honduras: North America;
    Bulgaria: Europe; Ecuador: South America; South Korea: Asia; Morocco: Africa; Nicaragua: North America
""")
"""A country: its continent."""

ANALOGIES = [
    _pairs("""puppy: dog; kitten: cat; calf: cow; foal: horse; lamb: sheep; cub: bear; chick: hen;
              duckling: duck; tadpole: frog; piglet: pig; caterpillar: butterfly; gosling: goose"""),
    _pairs("""bee: hive; bird: nest; spider: web; horse: stable; rabbit: burrow; dog: kennel; monk: monastery;
              prisoner: cell; king: palace; soldier: barracks; pig: sty; bat: cave"""),
    _pairs("""finger: hand; toe: foot; petal: flower; branch: tree; page: book; wheel: car; key: piano;
              brick: wall; feather: wing; step: staircase; sail: boat; string: guitar"""),
    _pairs("""pen: write; knife: cut; spade: dig; eye: see; ear: hear; bed: sleep; chair: sit; ball: throw;
              song: sing; book: read; cake: eat; bicycle: ride"""),
]
"""Relations: in each, a first word and its partner."""

COMPARISONS = _rows("""
    heavier     | a brick             | a feather
    heavier     | a car               | a bicycle
    heavier     | a melon             | a grape
    heavier     | a piano             | a guitar
    taller      | a giraffe           | a goat
    taller      | a tower             | a bus stop
    taller      | an oak              | a daisy
    faster      | a train             | a tortoise
    faster      | a plane             | a ship
    faster      | a cheetah           | a cow
    faster      | light               | sound
    hotter      | the Sun             | the Moon
    hotter      | boiling water       | warm milk
    hotter      | a desert at noon    | a cellar
    colder      | ice                 | soup
    colder      | the North Pole      | the Sahara
    colder      | winter              | summer
    bigger      | an ocean            | a pond
    bigger      | a mountain          | a hill
    bigger      | the Earth           | the Moon
    bigger      | a city              | a village
    smaller     | a mouse             | a horse
    smaller     | a pea               | an orange
    smaller     | an atom             | a grain of sand
    longer      | a century           | a decade
    longer      | an hour             | a minute
    longer      | a river             | a bathtub
    longer      | a kilometre         | a metre
    shorter     | a week              | a month
    shorter     | an inch             | a mile
    louder      | thunder             | a whisper
    louder      | a drum              | a ticking watch
    harder      | a diamond           | a bar of soap
    harder      | steel               | butter
    softer      | a pillow            | a stone
    sweeter     | honey               | vinegar
    older       | a grandmother       | her grandson
    deeper      | a well              | a puddle
    brighter    | a lightning flash   | a candle
    sharper     | a needle            | a spoon
""")
"""Comparative | the one for which it holds | the other one."""

SCIENCE = _rows("""
    Which gas do people need to breathe in order to live? | oxygen | helium | methane | neon
    What do plants take in through their roots? | water | sunlight | sound | smoke
    What pulls a dropped ball towards the ground? | gravity | friction | magnetism | wind
    What does a caterpillar turn into when it grows up? | a butterfly | a spider | a worm | a snail
    Which part of the body pumps blood? | the heart | the stomach | the lungs | the liver
    Which part of a plant makes most of its food? | the leaves | the roots | the bark | the seeds
    At what temperature in Celsius does water freeze? | 0 degrees | 25 degrees | 50 degrees | 100 degrees
    What is frozen water called? | ice | steam | mist | dew
    Which planet do we live on? | Earth | Mars | Venus | Saturn | Jupiter
    Which of these animals lays eggs? | a hen | a cow | a dog | a horse
    What do bees collect from flowers? | nectar | leaves | bark | stones
    What do you use to smell a rose? | the nose | the ear | the tongue | the skin
    What kind of energy does the Sun give to the Earth? | light | sound | wind | coal
    What does a magnet attract? | iron | wood | glass | paper
    What causes day and night? | the Earth spinning | the Moon glowing | clouds moving | the Sun switching off
    Which organ do fish use to breathe? | gills | lungs | fins | scales
    What falls from clouds when it is warm and wet? | rain | sand | ash | leaves
    Which animal eats only plants? | a rabbit | a lion | a wolf | a shark
    What do we call animals without a backbone? | invertebrates | mammals | reptiles | birds
    Which part of the eye lets light in? | the pupil | the eyelid | the lash | the brow
    What happens to most metals when they are heated? | they expand | they shrink | they vanish | they turn to wood
    Which material lets electricity pass easily? | copper | rubber | plastic | wood
    What covers most of the surface of the Earth? | water | forest | desert | ice
    What do the lungs take in? | air | food | blood | light
    Which force slows down a sliding box? | friction | gravity | lift | magnetism
    How does a snake move? | it slithers | it hops | it flies | it walks on legs
    What does a thermometer show? | how hot it is | how heavy it is | how long it is | how loud it is
    Where does a tree take in water? | at its roots | at its leaves | at its flowers | at its bark
    What do we call melted rock from a volcano? | lava | sand | mud | clay
    What makes a shadow? | light being blocked | water drying | air moving | sound bouncing
    In which season do many trees drop their leaves? | autumn | spring | summer
    Which animal sleeps through the winter? | a hedgehog | a sheep | a robin | a horse
    What is the hard part inside an arm called? | bone | muscle | skin | blood
    What are clouds made of? | tiny drops of water | smoke | cotton | sand
    Which body is at the centre of the solar system? | the Sun | the Earth | the Moon | Mars
    What does a seed need in order to sprout? | water | salt | oil | darkness for a year
    What do cows give that people drink? | milk | juice | tea | cider
    Which animal is a mammal? | a whale | a shark | a frog | a hen
    What happens to a puddle on a sunny day? | it evaporates | it freezes | it grows | it burns
    What do teeth do with food? | they crush it | they taste it | they cool it | they colour it
    What is needed to hear a bell ring? | ears | eyes | hands
    Which animal spins a web? | a spider | a bee | a mouse | a snail
    What is the young of a frog called? | a tadpole | a chick | a calf | a lamb
    What turns a windmill? | moving air | rain | sunlight | gravity
    Where is the brain? | in the skull | in the chest | in the belly | in the back
    What does a plant give off that animals breathe? | oxygen | carbon dioxide | smoke | hydrogen
    Which of these floats on water? | a cork | a stone | a nail | a coin
    Which star is nearest to the Earth? | the Sun | Sirius | Vega | the North Star
    Which tool splits white light into colours? | a prism | a hammer | a magnet | a spring
    What does rust need to form on iron? | water and air | sunlight | oil | sugar
""")
"""Question | the right answer | wrong answers."""
